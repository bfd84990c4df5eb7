"""How we run Flower's programs: where they are, and an environment in which they phone nobody."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def program(name: str) -> str:
    """The path of a Flower program in this very environment."""
    return str(Path(sys.executable).parent / name)


def endpoint(host: str, port: int) -> str:
    """host:port as it stands in addresses and CONNECT lines: an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


def settle_in(home: Path) -> None:
    """Prepare this very process for Flower's code in it.

    Without a proxy's settings: its client would send even its loopback calls there. With a home of our own: it
    writes a folder into the user's otherwise, telemetry or not.

    Args:
        home: Its FLWR_HOME.
    """
    os.environ["FLWR_HOME"] = str(home)
    for name in [name for name in os.environ if name.lower() in _PROXIES]:
        del os.environ[name]


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment for a Flower process.

    Args:
        home: Its FLWR_HOME.
        more: Variables to add.

    Returns:
        What this process has, without anything of Flower's or a proxy's, plus ours: no telemetry, no look for
        updates, our programs first on the PATH (SuperLink starts ``flower-superexec`` by its bare name).
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FLWR_") and name.lower() not in _PROXIES
    }
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's threads only wait for each other at these sizes
        **more,
    }
