"""Asks the camera process, over loopback, whether it watches: for the server to show."""

from __future__ import annotations

import http.client
import json

_PATIENCE_S = 2.0
_MOST_BYTES = 65536


def live_health(port: int) -> str:
    """What is wrong with the live loop, in a sentence; empty where nothing is.

    Args:
        port: Of the camera's own page.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)  # no proxy, whatever is set
    try:
        connection.request("GET", "/healthz")
        reply = connection.getresponse()
        status, body = reply.status, reply.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException):
        return "The live loop doesn't answer"
    finally:
        connection.close()
    if status == http.HTTPStatus.OK:
        return ""
    try:
        return str(json.loads(body)["error"]["what"])
    except (ValueError, KeyError, TypeError):
        return f"The live loop's page answers {status}"
