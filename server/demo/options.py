"""The demo's command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from appliance.errors import ConfigError
from server.config import Precision


@dataclass(frozen=True)
class Options:
    """What the demo was asked to do.

    Attributes:
        work: Its folder: caches and the demo's site.
        data: Real pictures in the tutorial's layout; None for sample frames.
        backbone: Keras weights file; None to look elsewhere, see server/backbone.py.
        precision: Of the backbone; int8 is shown the server's own pictures.
        evaluate: Class folders to test the published .eim on; None for the sample's own where samples are used.
        once: End after the table.
        json: Where to write the table.
        page_port: Of the first camera's page; the next cameras' follow.
        port: Of the SuperLink.
        fleet_port: Of the fleet page.
        rate_fps: Of the folder cameras.
        seed: Of the sample frames.
        drill: Kill this camera's night process (its number, from 1) in the first round; 0 for none.
    """

    work: Path
    data: Path | None
    backbone: Path | None
    precision: Precision
    evaluate: Path | None
    once: bool
    json: Path | None
    page_port: int
    port: int
    fleet_port: int
    rate_fps: float
    seed: int
    drill: int


def parse(arguments: list[str] | None) -> Options:
    """Read the command line.

    Raises:
        ConfigError: A path doesn't exist, or a port can't be one.
    """
    parser = argparse.ArgumentParser(
        prog="./install.sh demo", description="Run a whole site on this machine: server, cameras, one night."
    )
    parser.add_argument("--once", action="store_true", help="end after the table; exit 0 only if all went well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    parser.add_argument("--data", type=Path, metavar="DIR", help="real pictures in the tutorial's layout")
    parser.add_argument("--backbone", type=Path, metavar="FILE", help="Keras weights of MobileNetV2 1.0 160, no top")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="float32", help="of the backbone (default: float32)"
    )
    parser.add_argument("--evaluate", type=Path, metavar="DIR", help="class folders to test the published .eim on")
    parser.add_argument("--page-port", type=int, default=4912, metavar="N", help="first page's port (default: 4912)")
    parser.add_argument("--port", type=int, default=9443, metavar="N", help="the SuperLink's port (default: 9443)")
    parser.add_argument("--fleet-port", type=int, default=4911, metavar="N", help="the fleet page's (default: 4911)")
    parser.add_argument("--fps", type=float, default=10.0, metavar="N", help="frames per second (default: 10)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the sample frames (default: 1)")
    parser.add_argument("--drill", type=int, default=0, metavar="CAMERA", help="kill that camera's night in round 1")
    parser.add_argument("--work", type=Path, default=Path(".sitecam"), metavar="DIR", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    for name in ("data", "backbone", "evaluate"):
        path = getattr(given, name)
        if path is not None and not path.exists():
            raise ConfigError(f"--{name} {path} does not exist", do="Check the path")
    for name in ("port", "page_port", "fleet_port"):
        if not 1 <= getattr(given, name) <= 65000:
            raise ConfigError(f"--{name.replace('_', '-')} must be from 1 to 65000", do="Choose another port")
    if not 0.5 <= given.fps <= 60:
        raise ConfigError("--fps must be from 0.5 to 60", do="Choose another rate")

    def absolute(path: Path | None) -> Path | None:
        return path.resolve() if path is not None else None

    return Options(
        work=given.work.resolve(),
        data=absolute(given.data),
        backbone=absolute(given.backbone),
        precision=given.precision,
        evaluate=absolute(given.evaluate),
        once=given.once,
        json=absolute(given.json),
        page_port=given.page_port,
        port=given.port,
        fleet_port=given.fleet_port,
        rate_fps=given.fps,
        seed=given.seed,
        drill=given.drill,
    )
