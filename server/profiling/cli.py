"""``sitecam-server profile``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from server.config import ServerSettings
from server.export.versions import version_of
from server.profiling.report import profile

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_profile(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("profile", help="what the model takes: measured here, and on every camera")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads for one inference (default: 1)")
    parser.add_argument("--inferences", type=_positive, default=200, help="how many are measured (default: 200)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_profile)


def _profile(settings: ServerSettings, options: argparse.Namespace) -> int:
    paths, shelf, manifest = version_of(settings, None)
    found = profile(
        *(settings, paths, shelf, manifest),
        threads=options.threads,
        inferences=options.inferences,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(json.dumps(found.json(), indent=1) if options.json else found.text())
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
