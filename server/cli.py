"""The ``sitecam-server`` command: what people do on the site's server."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from appliance import __version__
from appliance.command import run_command
from appliance.errors import StoreError
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.store.frames import FrameStore
from appliance.store.importing import BOXES_HELP, import_folders
from server.admission_cli import add_commands
from server.certificates import renew_tls
from server.config import DEFAULT_PATH, ServerSettings, load
from server.enrol import enrol_camera
from server.export.cli import add_export
from server.fleet_init import make_fleet
from server.night import EXIT_CODES, hold_night
from server.night_due import not_due
from server.paths import ServerPaths
from server.profiling.cli import add_profile
from server.registry import Registry
from server.roster import Roster
from server.studio.cli import add_studio
from server.superlink import SuperLink


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 for success, 1 where it failed, 2 for a wrong option or setting; ``round``: see
        :data:`server.night.EXIT_CODES`.
    """
    options = _parser().parse_args(arguments)
    return run_command("sitecam-server", load, options.run, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sitecam-server", description="A site's server: its fleet and its nights.")
    parser.add_argument("--version", action="version", version=f"sitecam {__version__}")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help=f"default: {DEFAULT_PATH}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="make the fleet: certificates, signing key, version 1 of the model")
    init.add_argument("--renew-tls", action="store_true", help="make a new TLS certificate; cameras stay enrolled")
    init.set_defaults(run=_init)

    superlink = commands.add_parser("superlink", help="run Flower's SuperLink until stopped")
    superlink.set_defaults(run=_superlink)

    add_commands(commands)

    enrolment = commands.add_parser("enrol", help="let a camera in by files, where it has no network yet")
    enrolment.add_argument("name", help="what people call the camera")
    enrolment.add_argument("public_key", type=Path, help="the file that sitecam key made on the camera")
    enrolment.add_argument("bundle", type=Path, help="the file to write and to copy to the camera")
    enrolment.set_defaults(run=_enrol)

    imports = commands.add_parser("import", help="bring the server's own labelled test frames in")
    imports.add_argument("folder", type=Path, help="class folders, Edge Impulse's export, or a camera's (zip)")
    imports.add_argument("--boxes", choices=["crop", "ignore"], default="ignore", help=BOXES_HELP)
    imports.add_argument("--by", default="import", help="who labelled them (default: import)")
    imports.add_argument("--json", action="store_true", help="print the report as JSON")
    imports.set_defaults(run=_import)

    night = commands.add_parser("round", help="hold one night with a running SuperLink")
    night.add_argument("--name", default="", help="the night's name (default: today's date, UTC)")
    night.add_argument("--json", action="store_true", help="print the night as JSON at its end")
    night.add_argument(
        "--only-deploy", action="store_true", help="train nothing: take the version that runs to cameras behind it"
    )
    night.add_argument("--when-due", action="store_true", help="only if it is night and none was held; for the timer")
    night.set_defaults(run=_round)

    add_export(commands)
    add_profile(commands)
    add_studio(commands)

    status = commands.add_parser("status", help="running version, cameras, and the last night")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)
    return parser


def _init(settings: ServerSettings, options: argparse.Namespace) -> int:
    paths = ServerPaths(settings.state_dir)
    if options.renew_tls and paths.ca_certificate.exists():  # first: an expired one would stop everything else
        renew_tls(paths, host=settings.superlink.host)
        _say("a new TLS certificate; restart the SuperLink to use it")
    manifest = make_fleet(settings, say=_say)
    _say(f"{manifest.fleet}: version {manifest.version}, labels {', '.join(manifest.labels)}")
    return 0


def _superlink(settings: ServerSettings, options: argparse.Namespace) -> int:
    link = SuperLink(settings, options.config)
    link.check()
    os.execve(link.command()[0], link.command(), link.environment())  # systemd then watches Flower itself


def _enrol(settings: ServerSettings, options: argparse.Namespace) -> int:
    link = SuperLink(settings, options.config)
    node = enrol_camera(settings, link, name=options.name, public_key=options.public_key, bundle=options.bundle)
    _say(f"{options.name} is node {node}. Copy {options.bundle} to the camera, then: sitecam enrol FILE")
    return 0


def _import(settings: ServerSettings, options: argparse.Namespace) -> int:
    with FrameStore(ServerPaths(settings.state_dir).store) as store:
        report = import_folders(
            store,
            options.folder,
            labels=settings.fleet.labels,
            by=options.by,
            split="test",
            crop=options.boxes == "crop",
        )
    print(report.json() if options.json else report.text())
    return 0


def _round(settings: ServerSettings, options: argparse.Namespace) -> int:
    say = _say_aside if options.json else _say
    if options.when_due:
        why_not = not_due(settings, Registry(ServerPaths(settings.state_dir).registry), datetime.now(UTC))
        if why_not:
            say(why_not)
            return 0
    record = hold_night(
        settings, SuperLink(settings, options.config), say, name=options.name, only_deploy=options.only_deploy
    )
    registry = Registry(ServerPaths(settings.state_dir).registry)
    if options.json:
        verdicts = {name: v and json.loads(v.to_json()) for name, v in registry.verdicts(record.id).items()}
        night = {"night": record.name, "outcome": record.outcome, "message": record.message}
        print(json.dumps({**night, "figures": record.figures, "verdicts": verdicts}, indent=1))
    else:
        _say(f"{record.outcome}: {record.message}")
    return EXIT_CODES.get(record.outcome or "failed", 1)


def _status(settings: ServerSettings, options: argparse.Namespace) -> int:
    paths = ServerPaths(settings.state_dir)
    if not paths.signing_public.exists():
        raise StoreError(
            f"There is no fleet in {paths.root} yet", means="There is nothing to show", do="Run sitecam-server init"
        )
    version = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes())).current
    cameras = Roster(paths.registry).cameras()
    night = next(iter(Registry(paths.registry).nights(limit=1)), None)
    on_hold = {camera.name: camera.held_why for camera in cameras if camera.held_utc}
    names = [camera.name for camera in cameras]
    if options.json:
        last = night and {"night": night.name, "outcome": night.outcome, "message": night.message}
        body = {"fleet": settings.fleet.name, "version": version, "cameras": names, "on_hold": on_hold, "last": last}
        print(json.dumps(body, indent=1))
        return 0
    _say(f"{settings.fleet.name}: version {version or 'none'}; cameras: {', '.join(names) or 'none'}")
    for name, why in on_hold.items():
        _say(f"on hold: {name}, because {why}. When it is well again: sitecam-server release {name}")
    if night:
        _say(f"night {night.name}: {night.outcome or 'under way'}. {night.message}".strip())
    return 0


def _say_aside(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
