"""The camera's page with all its nouns: who may come in, by which names, over which certificate."""

from __future__ import annotations

import logging
import zoneinfo
from collections.abc import Callable, Sequence

from fastapi import APIRouter

from appliance.accounts import Accounts
from appliance.config import Settings
from appliance.errors import SitecamError
from appliance.fleet import Fleet
from appliance.forget_asking import Forgetter
from appliance.join_code import address
from appliance.keeping import Keeping
from appliance.metrics import Metrics
from appliance.metrics_token import TokenCheck, metrics_token
from appliance.models.shelf import Shelf
from appliance.models_view import ModelChanger
from appliance.page_names import wanted_names
from appliance.page_tls import PageCertificate
from appliance.paths import CameraPaths
from appliance.privacy import OtherWay
from appliance.web.api import authority, capture, data, events, frames, metrics, models, privacy
from appliance.web.app import create_app
from appliance.web.server import PageServer
from appliance.web.source import PageSource

logger = logging.getLogger(__name__)


class CameraPage:
    """Serves the page of one camera, and keeps its certificate good.

    Args:
        settings: The camera's.
        paths: Its state folder.
        fleet: Where it belongs; None where it works alone.
        shelf: Its models.
        source: The live loop.
        keeping: Frames, labels, events.
        figures: For /metrics.
        forgetter: Forgets this camera.
        other: What leaves it beside the nights, as it is now.

    Raises:
        ConfigError: The page's address can't be used.
        CertificateError: Its key or certificate can't be.
        StoreError: The accounts can't be.
    """

    def __init__(
        self,
        settings: Settings,
        paths: CameraPaths,
        fleet: Fleet | None,
        shelf: Shelf,
        source: PageSource,
        keeping: Keeping,
        figures: Metrics,
        forgetter: Forgetter,
        other: Callable[[], Sequence[OtherWay]],
    ) -> None:
        zone = zoneinfo.ZoneInfo(settings.page.time_zone)
        camera, page = settings.camera.name, settings.page
        names = [*page.names, page.host]
        self.accounts = Accounts(paths.accounts, known_names=[camera, fleet.name if fleet else camera])
        self.certificate = PageCertificate(paths, names, camera=camera) if page.https else None
        labelling = frames.Labelling(
            keeping.store,
            keeping.queue,
            keeping.answers,
            keeping.model,
            zone,
            settings.model.margin,
            keeping.recording,
        )
        routers: list[APIRouter] = [
            frames.router(labelling),
            capture.router(keeping.store, keeping.burst, paths),
            data.router(keeping.store, keeping.deleter, zone, camera=camera, labels=lambda: keeping.model.labels),
            events.router(keeping.events, zone),
            models.router(shelf, ModelChanger(shelf), zone),
            metrics.router(figures),
            authority.router(paths),
            privacy.router(paths.ledger, _where(fleet), forgetter, zone, other=other),
        ]
        self.app = create_app(
            source,
            time_zone=page.time_zone,
            accounts=self.accounts,
            hosts=wanted_names(names),
            https=page.https,
            routers=routers,
            open_with={metrics.PATH: TokenCheck(metrics_token(paths.metrics_token))},
        )
        self.server = PageServer(
            self.app,
            page.host,
            page.port,
            certificate=self.certificate.certificate_file if self.certificate else None,
            key=self.certificate.key_file if self.certificate else None,
        )
        if self.certificate:
            self.certificate.on_renewed = self._renew
        # A fleet signs for no loopback name, so a page that answers to nothing else stays with its own certificate.
        self._loopback = page.host in ("localhost", "127.0.0.1", "::1")

    @property
    def url(self) -> str:
        """Its address."""
        return self.server.url

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self.server.alive

    @property
    def viewers(self) -> int:
        """How many watch the live picture."""
        return int(self.app.state.pictures.viewers)

    def start(self) -> None:
        """Take the port, then serve.

        Raises:
            PortTakenError: Another program listens there.
            ConfigError: The port may not be used.
        """
        self.server.start()
        if self.certificate and not self._loopback:
            self.certificate.start()

    def stop(self) -> None:
        """Serve no more, and let go of the accounts."""
        if self.certificate:
            self.certificate.stop()
        self.server.stop()
        self.accounts.close()

    def _renew(self) -> None:
        try:
            self.server.renew()
        except SitecamError as error:
            logger.error("The page goes on with its old certificate: %s", error)


def _where(fleet: Fleet | None) -> str:
    """Where the nights' numbers go, in words; empty where there are no nights."""
    return f"{fleet.name}, {address(*fleet.address)}" if fleet else ""
