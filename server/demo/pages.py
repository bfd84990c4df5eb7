"""The cameras' pages, as somebody sees them who has an account there."""

from __future__ import annotations

import contextlib
import secrets
import ssl
from functools import cache
from typing import Any

import httpx

from appliance.accounts import Accounts
from appliance.paths import CameraPaths
from server.demo.site import DemoCamera

NAME = "demo"
_RANDOM_BYTES = 6


class Visitor:
    """Somebody with an account on one camera, made as a person's first one is: by a one-time code.

    Args:
        camera: Its process need not run yet.
    """

    def __init__(self, camera: DemoCamera) -> None:
        self._camera = camera
        self._paths = CameraPaths(camera.state)
        self._cookies = httpx.Cookies()
        self.password = secrets.token_hex(_RANDOM_BYTES)
        with contextlib.closing(Accounts(self._paths.accounts, known_names=[camera.name])) as accounts:
            accounts.first(accounts.new_code("admin").code, NAME, self.password)

    def state(self) -> dict[str, Any] | None:
        """What the page says; None where it doesn't answer."""
        try:
            with self.browser() as browser:
                answer = browser.get("api/status")
                if answer.status_code == httpx.codes.UNAUTHORIZED:
                    browser.post("api/login", json={"name": NAME, "password": self.password}).raise_for_status()
                    answer = browser.get("api/status")
                answer.raise_for_status()
                self._cookies = browser.cookies
                return dict(answer.json())
        except (httpx.HTTPError, OSError):
            return None

    @property
    def cookie(self) -> str:
        """The session as a Cookie header; empty before the first :meth:`state`."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._cookies.jar)

    def browser(self) -> httpx.Client:
        """A client for the page; close it after use. It takes the page's own certificate, and the fleet's."""
        page = self._camera.page
        trusted: bool | ssl.SSLContext = False
        if page.startswith("https:"):
            trusted = ssl.create_default_context(cafile=self._paths.page_certificate)
            trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # this very certificate is trusted, whoever signed it
        return httpx.Client(
            base_url=page,
            verify=trusted,
            cookies=self._cookies,
            headers={"Origin": page.rstrip("/")},
            timeout=5,
            trust_env=False,
        )


@cache
def visitor(camera: DemoCamera) -> Visitor:
    """The demo's own account on that camera."""
    return Visitor(camera)


def page_state(camera: DemoCamera) -> dict[str, Any] | None:
    """What a camera's page says; None where it doesn't answer."""
    return visitor(camera).state()
