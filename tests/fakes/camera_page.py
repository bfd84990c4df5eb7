"""A camera's real page: real accounts, guards and routes, over HTTP or TLS, with people who are logged in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from appliance.accounts import Accounts
from appliance.passwords import Passwords
from appliance.web.app import create_app
from appliance.web.roles import Role
from appliance.web.source import PageSource

PASSWORD = "four random words do"  # noqa: S105  # of a page that lives for a test
QUICK = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))  # argon2 as it is, at next to no cost


def accounts_in(root: Path, **options: Any) -> Accounts:
    """The accounts of the camera in ``root``, with quick hashes."""
    return Accounts(root / "keys" / "accounts.sqlite", **{"passwords": QUICK, **options})


def add(accounts: Accounts, name: str, role: Role = "admin", password: str = PASSWORD) -> str:
    """Make an account as people do; return the token of its first session. The very first is an admin's."""
    return accounts.first(accounts.new_code(role).code, name, password)


class LetIn:
    """An app whose every request comes from one person who is logged in, unless it brings cookies of its own.

    All guards run; only the browser's part, keeping the cookie, is done here.

    Args:
        app: From :func:`appliance.web.app.create_app`; its ``state`` is this one's too.
        token: Of the person's session.
    """

    def __init__(self, app: FastAPI, token: str) -> None:
        self._app = app
        self.state: State = app.state
        self._cookie = f"{app.state.door.cookie}={token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not any(name == b"cookie" for name, _ in scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], (b"cookie", self._cookie)]}
        await self._app(scope, receive, send)


def let_in_app(
    source: PageSource, root: Path, *, role: Role = "admin", time_zone: str = "Europe/Berlin", **options: Any
) -> LetIn:
    """The page of ``source``, for plain HTTP on loopback, as somebody sees it who is logged in.

    Args:
        source: The live loop.
        root: The camera's state folder; several pages may share it.
        role: Of the person.
        time_zone: The site's.
        options: For ``create_app``.
    """
    accounts = accounts_in(root)
    if accounts.empty:
        add(accounts, "Ada")
    name = {"admin": "Ada", "labeller": "Lin", "viewer": "Vic"}[role]
    if name not in [account.name for account in accounts.all()]:
        add(accounts, name, role)
    token = accounts.log_in(name, PASSWORD)
    app = create_app(source, **{"time_zone": time_zone, "accounts": accounts, "https": False, **options})
    return LetIn(app, token)
