"""Who asks: the roles of the page's users, and what each route demands.

:class:`appliance.web.login.LoginGuard` puts the caller into the request's scope before any route is chosen, and lets
nobody else past; a route then demands a role by the type of one parameter: ``caller: Labeller``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from appliance.errors import NotAllowedError
from appliance.roles import Caller, Role

CALLER = "sitecam.caller"  # in the request's scope


def demands(role: Role) -> Callable[[Request], Caller]:
    """A dependency that gives the caller, where their role is great enough."""

    def caller(request: Request) -> Caller:
        found = request.scope.get(CALLER)
        if not isinstance(found, Caller):
            raise NotAllowedError("You are not logged in", do="Log in at /login")
        if not found.may(role):
            raise NotAllowedError(
                f"This needs the role {role}; {found.name} is {found.role}",
                means="Nothing was changed",
                do="Ask an admin of this camera",
            )
        return found

    caller.role = role  # type: ignore[attr-defined]  # read by the test that walks over every route
    return caller


__all__ = ["CALLER", "Admin", "Caller", "Labeller", "Role", "Viewer", "demands"]

Viewer = Annotated[Caller, Depends(demands("viewer"))]
Labeller = Annotated[Caller, Depends(demands("labeller"))]
Admin = Annotated[Caller, Depends(demands("admin"))]
