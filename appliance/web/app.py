"""The camera's page: one app of routers, behind its guards."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Collection, Mapping, Sequence

from fastapi import APIRouter, FastAPI, Request
from starlette.middleware import Middleware

from appliance import __version__
from appliance.accounts import Accounts
from appliance.errors import ConfigError
from appliance.web.api import accounts as people
from appliance.web.api import live, session
from appliance.web.bodies import BodyGuard
from appliance.web.door import Door
from appliance.web.guards import LOOPBACK_NAMES, HeaderGuard, HostGuard, as_in_url
from appliance.web.login import LoginGuard
from appliance.web.origin import SameOriginGuard
from appliance.web.pages import LOGIN_PATH, STATIC, STATIC_PATH, page_routes
from appliance.web.problems import RESPONSES, answer_problems
from appliance.web.source import PageSource
from appliance.web.stream import PictureStream
from appliance.web.throttle import Throttle

__all__ = ["OPEN_PATHS", "STATIC", "create_app"]

#: Everything that answers somebody who isn't logged in, beside the files below /static/.
OPEN_PATHS = frozenset({LOGIN_PATH, session.LOGIN, session.FIRST, live.HEALTH_PATH})


def create_app(
    source: PageSource,
    *,
    time_zone: str,
    accounts: Accounts,
    hosts: Collection[str] = (),
    https: bool = True,
    routers: Sequence[APIRouter] = (),
    open_with: Mapping[str, Callable[[Request], bool]] | None = None,
    throttle: Throttle | None = None,
) -> FastAPI:
    """The page of one camera.

    Its ``state.pictures`` is the :class:`PictureStream`: closing that ends every endless answer.

    Args:
        source: The live loop.
        time_zone: The site's, as an IANA name.
        accounts: Who may come in.
        hosts: Names it answers to beside the loopback ones, without port.
        https: Whether it is served over TLS; off only on loopback.
        routers: Its other nouns, each behind the login like everything else.
        open_with: Paths with a key of their own, and what tells whether a request brings it.
        throttle: Slows down guessing.

    Raises:
        ConfigError: The time zone is unknown.
    """
    try:
        zone = zoneinfo.ZoneInfo(time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"The time zone {time_zone!r} is unknown",
            means="The page can't show the site's time",
            do='Write [page] time_zone in sitecam.toml like "Europe/Berlin"',
        ) from error
    pictures = PictureStream(source)
    door = Door(accounts, throttle or Throttle(), https=https)
    app = FastAPI(
        title="Sitecam",
        version=__version__,
        docs_url=None,  # FastAPI's own come with scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses=RESPONSES,
        routes=page_routes(),
        middleware=[
            Middleware(HeaderGuard),
            Middleware(HostGuard, names=LOOPBACK_NAMES | {as_in_url(host) for host in hosts}),
            Middleware(SameOriginGuard, https=https),
            Middleware(
                LoginGuard, who=door.who, open_paths=OPEN_PATHS, open_folders=(STATIC_PATH,), open_with=open_with or {}
            ),
            Middleware(BodyGuard),
        ],
    )
    own = (live.router(source, pictures, zone), session.router(source, accounts, door), people.router(accounts, zone))
    for routes in (*own, *routers):
        app.include_router(routes)
    answer_problems(app)
    app.state.pictures = pictures
    app.state.door = door
    return app
