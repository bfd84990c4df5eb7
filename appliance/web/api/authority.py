"""The fleet's authority, for phones that shall open its cameras' pages without a warning."""

from __future__ import annotations

from fastapi import APIRouter, Response

from appliance.errors import NotThereError
from appliance.page_tls import fleet_authority
from appliance.paths import CameraPaths
from appliance.web.roles import Viewer


def router(paths: CameraPaths) -> APIRouter:
    """The one route.

    Args:
        paths: The camera's state folder.
    """
    routes = APIRouter(tags=["authority"])

    @routes.get(
        "/authority.pem",
        response_class=Response,
        responses={200: {"content": {"application/x-pem-file": {}}}, 404: {"description": "Not enrolled"}},
    )
    def authority(caller: Viewer) -> Response:  # noqa: ARG001  # the parameter is the demand
        """The authority's certificate, PEM. Nothing in it is secret."""
        found = fleet_authority(paths)
        if found is None:
            raise NotThereError("This camera belongs to no fleet", do="Enrol it")
        head = {"Content-Disposition": 'attachment; filename="sitecam-authority.pem"'}
        return Response(found[0], media_type="application/x-pem-file", headers=head)

    return routes
