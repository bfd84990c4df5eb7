"""The ``sitecam-fleet`` command: the page where people look after the fleet."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance import __version__
from appliance.command import run_command
from appliance.errors import ConfigError, StoreError
from appliance.ports import free_port
from appliance.web.guards import as_in_url
from server import qr
from server.admission import Admission
from server.certificates import check_certificate
from server.config import DEFAULT_PATH, ServerSettings, load
from server.fleet.app import create_app
from server.fleet.join import join_routes
from server.fleet.password import LEAST_CHARACTERS, Password
from server.fleet.serving import PageServer
from server.paths import ServerPaths
from server.superlink import SuperLink


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 for success, 1 where it failed, 2 for a wrong option or setting.
    """
    options = _parser().parse_args(arguments)
    return run_command("sitecam-fleet", load, options.run, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sitecam-fleet", description="The page where people look after the fleet.")
    parser.add_argument("--version", action="version", version=f"sitecam {__version__}")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help=f"default: {DEFAULT_PATH}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve the page until stopped")
    run.set_defaults(run=_run)

    password = commands.add_parser("password", help="set the page's password; whoever is logged in is logged out")
    password.add_argument("--stdin", action="store_true", help="read it from standard input, one line")
    password.set_defaults(run=_password)
    return parser


def _run(settings: ServerSettings, options: argparse.Namespace) -> int:
    paths = ServerPaths(settings.state_dir)
    _need_fleet(paths)
    check_certificate(paths)
    admission = Admission(settings, SuperLink(settings, options.config))
    app = create_app(settings, admission, join_routes=join_routes(admission), draw=qr.svg)
    free_port(
        settings.page.listen,
        settings.page.port,
        means="Another program listens there, perhaps a second fleet page, so this one can't be served",
        do="Stop that program, or choose another with [page] port in the server's settings",
    )
    if not Password(paths.keys).mark():
        print("No password is set: nobody can log in. Run sitecam-fleet password", flush=True)
    host = as_in_url(settings.page.listen)
    print(f"The fleet page is at https://{host}:{settings.page.port}/", flush=True)
    PageServer(app, settings, settings.page.port).run()
    return 0


def _password(settings: ServerSettings, options: argparse.Namespace) -> int:
    paths = ServerPaths(settings.state_dir)
    _need_fleet(paths)
    if options.stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass(f"Password for the fleet page (at least {LEAST_CHARACTERS} characters): ")
        if getpass.getpass("Once more: ") != password:
            raise ConfigError("The two passwords differ", means="Nothing was changed", do="Try again")
    Password(paths.keys).put(password)
    print("The password is set. Whoever was logged in is logged out.", flush=True)
    return 0


def _need_fleet(paths: ServerPaths) -> None:
    if not paths.keys.exists():
        raise StoreError(
            f"There is no fleet in {paths.root} yet", means="There is nothing to show", do="Run sitecam-server init"
        )


if __name__ == "__main__":
    sys.exit(main())
