"""The page's own files: its screens, and what they are made of."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from appliance.web.roles import CALLER

STATIC = Path(__file__).parent / "static"
LOGIN_PATH = "/login"
STATIC_PATH = "/static/"
SCREENS = ("label", "review", "data", "events", "models", "privacy", "people")
_MOST_NEXT = 300


def page_routes() -> list[BaseRoute]:
    """A route per screen that is there, the login page, and the files that all of them need."""
    screens = {f"/{name}": f"{name}.html" for name in SCREENS if (STATIC / f"{name}.html").is_file()}
    return [
        *(_screen(path, STATIC / name) for path, name in {"/": "index.html", **screens}.items()),
        Route(LOGIN_PATH, _login),
        Mount(STATIC_PATH.rstrip("/"), StaticFiles(directory=STATIC)),
    ]


def login_address(path: str, query: str = "") -> str:
    """The login page's address, from where it leads on to ``path``."""
    wanted = f"{path}?{query}" if query else path
    return LOGIN_PATH if wanted == "/" or not own_path(wanted) else f"{LOGIN_PATH}?next={quote(wanted, safe='/')}"


def own_path(address: str) -> bool:
    """Whether an address leads to this very page, however a browser reads it."""
    if not address.startswith("/") or address.startswith("//") or len(address) > _MOST_NEXT:
        return False
    if "\\" in address or not address.isprintable():  # browsers read \ as /, and leave out tabs and line ends
        return False
    parts = urlsplit(address)
    return not parts.scheme and not parts.netloc


def _screen(path: str, file: Path) -> Route:
    def show(_: Request) -> Response:
        return FileResponse(file)

    return Route(path, show, name=file.stem)


def _login(request: Request) -> Response:
    """The login page. Its address is put right before any script reads it, and nobody logs in twice."""
    onward = request.query_params.get("next", "/")
    if not own_path(onward):
        return RedirectResponse(LOGIN_PATH, 303)
    if CALLER in request.scope:
        return RedirectResponse(onward, 303)
    return FileResponse(STATIC / "login.html")
