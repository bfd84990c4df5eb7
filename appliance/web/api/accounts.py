"""Who may use the page: accounts, roles and invitations, for admins."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

from fastapi import APIRouter

from appliance.accounts import Account, Accounts
from appliance.web.api.session import Body, Name, Nothing
from appliance.web.roles import Admin, Role
from appliance.web.snapshot import times


class Invited(Body):
    """What a one-time code shall make."""

    role: Role


class Named(Body):
    """An account."""

    name: Name


class NamedRole(Body):
    """An account, and the role that it shall have."""

    name: Name
    role: Role


def router(accounts: Accounts, zone: tzinfo) -> APIRouter:
    """Routes of accounts.

    Args:
        accounts: Who may come in.
        zone: The site's time zone.
    """
    routes = APIRouter(tags=["accounts"])

    @routes.get("/api/accounts")
    def everybody(caller: Admin) -> list[dict[str, Any]]:  # noqa: ARG001
        """Every account."""
        now = datetime.now(UTC)
        return [_shown(account, now, zone) for account in accounts.all()]

    @routes.post("/api/invitations")
    def invite(caller: Admin, body: Invited) -> dict[str, Any]:  # noqa: ARG001
        """A one-time code, to be given to somebody."""
        code = accounts.new_code(body.role)
        return {"code": code.code, "role": code.role, "valid_minutes": code.valid_minutes}

    @routes.post("/api/accounts/remove")
    def remove(caller: Admin, body: Named) -> dict[str, bool]:  # noqa: ARG001
        """Remove an account and end its sessions."""
        accounts.remove(body.name)
        return {"done": True}

    @routes.post("/api/accounts/role")
    def set_role(caller: Admin, body: NamedRole) -> dict[str, bool]:  # noqa: ARG001
        """Give an account another role and end its sessions."""
        accounts.set_role(body.name, body.role)
        return {"done": True}

    @routes.post("/api/sessions/end")
    def end_all(caller: Admin, body: Nothing) -> dict[str, int]:  # noqa: ARG001
        """End everybody's session, the caller's too."""
        return {"ended": accounts.sessions.end_all()}

    return routes


def _shown(account: Account, now: datetime, zone: tzinfo) -> dict[str, Any]:
    return {
        "name": account.name,
        "role": account.role,
        **times("created", account.created_utc, now, zone),
        **times("last_seen", account.seen_utc, now, zone),
    }
