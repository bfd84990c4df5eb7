"""``python -m tests.pi``: builds test machines and runs whole-install scenarios on them, by hand, before a release."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from appliance.errors import SitecamError
from tests.pi.image import PYTHONS, build_image
from tests.pi.parts import Bench
from tests.pi.saying import Story
from tests.pi.scenarios import again, backup, contract, heat, preflight, site, uninstall, upgrade

SCENARIOS = {
    "preflight": (preflight, "what speaks against installing is said at once, and nothing changed"),
    "contract": (contract, "PiCamera on libcamera's virtual camera passes the CameraSource contract suite"),
    "again": (again, "a second run changes nothing"),
    "heat": (heat, "heat, throttling and weak power keep a night from beginning"),
    "upgrade": (upgrade, "a good release, a broken one, one that falls over later, and an archive that lies"),
    "backup": (backup, "a backup brings another Pi to where the first one stood"),
    "uninstall": (uninstall, "what was brought goes, data stay unless --purge"),
    "site": (site, "a server and two cameras from nothing, through a night, and a power cut"),
}


def main(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        0 if everything held; 1 if something did not; a project's exit code where a machine could not be had.
    """
    options = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("tests.pi: machines are made by root", file=sys.stderr)
        return 77
    story = Story()
    work: Path = options.work.resolve()
    try:
        if options.command == "image":
            build_image(options.suite, work, story)
            return 0
        story.say(f"{options.command}: {SCENARIOS[options.command][1]}, on Debian {options.suite}")
        SCENARIOS[options.command][0].run(Bench(work, options.suite, story, options.reuse))
    except SitecamError as error:
        print(f"tests.pi: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tests.pi: interrupted; its machines are gone", file=sys.stderr)
        return 130
    return story.end()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.pi", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    image = commands.add_parser("image", help="build a machine's root file system (minutes)")
    image.add_argument("suite", choices=sorted(PYTHONS))
    for name, (_, what) in SCENARIOS.items():
        scenario = commands.add_parser(name, help=what)
        scenario.add_argument("--suite", choices=sorted(PYTHONS), default="trixie", help="default: trixie")
        scenario.add_argument(
            "--reuse", action="store_true", help="a camera installed before the sources changed will do"
        )
    for command in commands.choices.values():
        command.add_argument("--work", type=Path, required=True, help="folder for everything that is made (20 GB)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
