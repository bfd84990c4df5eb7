"""One camera's day and whole night, with the real backbone, in a control group of 512 MB: does it fit?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import SitecamError
from server.demo.__main__ import main as demo
from server.demo.programs import Programs
from tests.fakes.memory_group import memory_group

CAMERA = "gate-1"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--mb", type=int, default=512, help="the group's limit (default: 512)")
    parser.add_argument("--ports", type=int, default=15100, help="the first of five ports (default: 15100)")


def run(options: argparse.Namespace) -> int:
    """Hold the demo's night with one of its cameras in the group.

    Raises:
        SitecamError: No such group can be made here.
    """
    with memory_group(options.mb * 2**20) as group, tempfile.TemporaryDirectory() as work:
        if group is None:
            raise SitecamError("No control group with a memory limit can be made here", do="Run it as root on Linux")

        def before(name: str) -> Sequence[str]:
            return group.before() if CAMERA in name else ()

        first = options.ports
        Programs.before = staticmethod(before)
        status = demo(
            [
                *("--work", str(Path(work)), "--once", "--page-port", str(first), "--fleet-port", str(first + 3)),
                *("--port", str(first + 4)),
            ]
        )
        print(f"{CAMERA}, day and night: {group.text()}")
        return status or int(group.killed > 0)
