"""The camera's figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from appliance.metrics import CONTENT_TYPE, Metrics
from appliance.web.roles import Admin

PATH = "/metrics"


def router(metrics: Metrics) -> APIRouter:
    """The one route; a request that brings the token comes as the key's holder, see ``appliance.web.login``.

    Args:
        metrics: The figures.
    """
    routes = APIRouter(tags=["metrics"])

    @routes.get(PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def scrape(caller: Admin) -> Response:  # noqa: ARG001  # the parameter is the demand
        """Everything in Prometheus' text format; for an admin, or with the token of `sitecam metrics-token`."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return routes
