"""The command ``python -m datasets``: converts data sets between formats, and checks them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from appliance.errors import SitecamError
from datasets.check import check
from datasets.formats import WRITERS, convert

FOUND_EXIT_CODE = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0: done, or nothing found; 1: it could not be done; 3: the check found something.
    """
    options = _parser().parse_args(arguments)
    try:
        return _check(options) if options.command == "check" else _convert(options)
    except SitecamError as error:
        print(f"datasets: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"datasets: {error}. The disk refused; what was there is as it was.", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m datasets", description="Folders of labelled pictures.")
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser("convert", help="write a data set in another format")
    converting.add_argument("source", type=Path, help="a folder in any format, or a camera's export (zip)")
    converting.add_argument("target", type=Path, help="a folder that does not exist yet")
    converting.add_argument("--to", choices=list(WRITERS), required=True)
    converting.add_argument(
        "--boxes",
        choices=["keep", "crop", "ignore"],
        default="keep",
        help="bounding boxes: keep them (default), cut each out as a picture of its own, or forget them",
    )
    converting.add_argument("--json", action="store_true", help="print the report as JSON")
    checking = commands.add_parser("check", help="say what speaks against trusting a score on a data set")
    checking.add_argument("source", type=Path, help="a folder in any format, or a camera's export (zip)")
    checking.add_argument("--json", action="store_true", help="print all of it as JSON")
    return parser


def _convert(options: argparse.Namespace) -> int:
    done = convert(options.source, options.target, to=options.to, boxes=options.boxes)
    if options.json:
        print(json.dumps(asdict(done), indent=1))
    else:
        for note in done.notes:
            print(f"note: {note}")
        print(f"{done.read} pictures read, {done.written} written to {options.target}")
    return 0


def _check(options: argparse.Namespace) -> int:
    report = check(options.source)
    print(json.dumps(report.json(), indent=1) if options.json else report.text())
    return FOUND_EXIT_CODE if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
