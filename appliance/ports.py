"""Finds out whether a port is free before a program that needs it is started."""

from __future__ import annotations

import socket

from appliance.errors import PortTakenError


def free_port(host: str, port: int, *, means: str, do: str) -> int:
    """A port that is free right now: this one, or any for 0.

    Args:
        host: The address to listen on.
        port: TCP.
        means: For the error: what can't start.
        do: For the error: which option changes the port.

    Raises:
        PortTakenError: Another program listens there.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise PortTakenError(f"Port {port} on {host} is taken", means=means, do=do) from error
