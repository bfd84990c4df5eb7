"""The installer's commands, behind install.sh: run as root by the system's own Python, standard library only."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from appliance import __version__
from appliance.errors import SitecamError
from appliance.installing import codes, timers
from appliance.installing.camera import install_camera
from appliance.installing.installation import Installation
from appliance.installing.layout import Layout
from appliance.installing.placing import Places
from appliance.installing.roles import Wishes, build
from appliance.installing.run import SystemRunner
from appliance.installing.server import install_server
from appliance.installing.upgrade import upgrade

_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(codes.WRONG_CALL, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code, see install.sh's head.
    """
    os.umask(0o022)  # sudo may bring a stricter one; what is secret says so itself
    options = _parser().parse_args(arguments)
    dry_run = getattr(options, "dry_run", False)
    if not dry_run and os.geteuid() != 0 and options.run not in (_camera, _server):  # those say it among the rest
        print("install.sh: this needs root. Run the same command with sudo.", file=sys.stderr)
        return codes.NOT_ROOT
    layout = Layout()
    runner = SystemRunner(layout.log if os.geteuid() == 0 and not dry_run else None, dry_run=dry_run)
    runner.note(f"--- Sitecam {__version__}: {options.command}")
    installation = Installation(layout, runner, Places(runner))
    try:
        installation.load()
        if not dry_run and os.geteuid() == 0:
            from appliance.installing.restore import finish_interrupted

            finish_interrupted(layout, runner)
        return int(options.run(installation, options))
    except SitecamError as error:
        runner.note(f"failed: {error}")
        print(f"install.sh: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        runner.note(f"failed: {error}")
        print(f"install.sh: {error}. The disk refused; the same command goes on from here.", file=sys.stderr)
        return codes.FAILED
    except KeyboardInterrupt:
        runner.note("interrupted")
        print("\ninstall.sh: interrupted. The same command goes on from here.", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="install.sh", description="Puts Sitecam on this machine, and keeps it.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"Sitecam {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    camera = commands.add_parser("camera", help="make this machine a camera", allow_abbrev=False)
    camera.add_argument("--server", default="", metavar="https://HOST:PORT", help="the fleet's server, as it shows it")
    camera.add_argument("--code", default="", help="lets this camera in: sudo sitecam-server code --approve")
    camera.add_argument("--name", default="", help="what people call the camera (default: this machine's name)")
    camera.add_argument("--hardware-watchdog", action="store_true", help="have a board that hangs reset itself")
    camera.set_defaults(run=_camera)

    server = commands.add_parser("server", help="make this machine the site's server", allow_abbrev=False)
    server.add_argument("--host", default="", help="name or address by which cameras reach it (default: its name)")
    server.add_argument("--fleet", default="", metavar="NAME", help="what people call the fleet (default: Site)")
    server.set_defaults(run=_server)

    for command in (camera, server):
        command.add_argument("--yes", action="store_true", help="ask nothing")
        command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        command.add_argument("--clock-is-right", action="store_true", help="don't ask for a synchronised clock")

    newer = commands.add_parser("upgrade", help="bring this machine to another release; goes back if it isn't healthy")
    newer.add_argument("release", type=Path, metavar="FOLDER|FILE.tar.gz")
    newer.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    newer.set_defaults(run=_upgrade)

    follow = commands.add_parser("apply", help="have timers follow the settings files")
    follow.set_defaults(run=_apply)

    away = commands.add_parser("uninstall", help="take Sitecam off this machine; settings and data stay")
    away.add_argument("--purge", action="store_true", help="settings and data too")
    away.add_argument("--yes", action="store_true", help="ask nothing")
    away.set_defaults(run=_uninstall)

    save = commands.add_parser("backup", help="write settings, keys, labels and models into one file")
    save.add_argument("file", type=Path)
    save.set_defaults(run=_backup)

    bring = commands.add_parser("restore", help="bring a backup to this machine")
    bring.add_argument("file", type=Path)
    bring.set_defaults(run=_restore)

    prepare = commands.add_parser("prepare")  # an older release's upgrade calls it: build, and change nothing else
    prepare.set_defaults(run=_prepare)
    return parser


def _camera(installation: Installation, options: argparse.Namespace) -> int:
    return install_camera(
        installation,
        Wishes(
            name=options.name,
            server=options.server,
            code=options.code,
            yes=options.yes,
            clock_is_right=options.clock_is_right,
            hardware_watchdog=options.hardware_watchdog,
        ),
    )


def _server(installation: Installation, options: argparse.Namespace) -> int:
    wishes = Wishes(name=options.fleet, host=options.host, yes=options.yes, clock_is_right=options.clock_is_right)
    return install_server(installation, wishes)


def _upgrade(installation: Installation, options: argparse.Namespace) -> int:
    return upgrade(installation, options.release.absolute())


def _apply(installation: Installation, _: argparse.Namespace) -> int:
    changed = timers.apply(installation)
    installation.save()
    installation.runner.say("Timers follow the settings." if changed else "Timers follow the settings already.")
    return 0


def _prepare(installation: Installation, _: argparse.Namespace) -> int:
    for role in installation.record.roles:
        build(installation, role)
    return 0


def _uninstall(installation: Installation, options: argparse.Namespace) -> int:
    from appliance.installing.uninstall import uninstall

    uninstall(installation.layout, installation.runner, purge=options.purge, yes=options.yes)
    return 0


def _backup(installation: Installation, options: argparse.Namespace) -> int:
    from appliance.installing.backup import backup

    backup(installation.layout, installation.runner, options.file.absolute())
    return 0


def _restore(installation: Installation, options: argparse.Namespace) -> int:
    from appliance.installing.restore import restore

    restore(installation.layout, installation.runner, options.file.absolute())
    return 0


if __name__ == "__main__":
    sys.exit(main())
