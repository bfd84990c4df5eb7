"""The demo's fleet page: the real program, behind a password that the demo makes up."""

from __future__ import annotations

import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx

from server.config import ServerSettings
from server.demo.programs import Programs
from server.paths import ServerPaths

_NAME = "fleet-page"
_RANDOM_BYTES = 6


@dataclass(frozen=True)
class FleetPage:
    """The running page.

    Attributes:
        url: Its address.
        password: What it asks for.
    """

    url: str
    password: str


def open_fleet_page(programs: Programs, settings: ServerSettings, config: Path) -> FleetPage:
    """Set a password, start the page and wait until it answers with the site's own certificate.

    Args:
        programs: Where it runs.
        settings: The server's; its fleet is made.
        config: The file they were read from.

    Raises:
        SitecamError: The password could not be set.
        NightError: The page did not come up.
    """
    page = FleetPage(f"https://127.0.0.1:{settings.page.port}/", secrets.token_hex(_RANDOM_BYTES))
    command = ("server.fleet.cli", "--config", str(config))
    programs.run(*command, "password", "--stdin", typed=f"{page.password}\n")
    programs.start(_NAME, *command, "run")
    with httpx.Client(
        verify=ssl.create_default_context(cafile=ServerPaths(settings.state_dir).ca_certificate),
        timeout=5,
        trust_env=False,
    ) as browser:
        programs.wait_for(_NAME, lambda: _answer(browser, page), what="its login")
    return page


def _answer(browser: httpx.Client, page: FleetPage) -> str | None:
    try:
        answer = browser.get(f"{page.url}login")
        answer.raise_for_status()
        return answer.text
    except httpx.HTTPError:
        return None
