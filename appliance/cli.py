"""The ``sitecam`` command: what people do on a camera."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from appliance import __version__, doctor, models_view
from appliance.accounts import Accounts
from appliance.alone import fleet_of
from appliance.by_hand import ask, camera_lock, do_it, target
from appliance.command import run_command
from appliance.config import DEFAULT_PATH, PageSettings, Settings, load
from appliance.doctor.footprint import footprints
from appliance.doctor.footprint import text as memory_text
from appliance.errors import ConfigError
from appliance.fleet import enrol, load_fleet, make_node_key
from appliance.forget import FORGOTTEN_EXIT_CODE
from appliance.forget_asking import forget_by_command, resume
from appliance.join_code import Invitation, read_address, read_code, read_uri
from appliance.joining import join
from appliance.learn_empty import Report, request_learning, wait_for_report
from appliance.metrics_token import metrics_token
from appliance.models import foreign_cli
from appliance.models.manifest import DEFAULT_LABELS
from appliance.models.shelf import Shelf
from appliance.page_names import own_addresses
from appliance.page_tls import certificate_state
from appliance.paths import CameraPaths
from appliance.roles import Role
from appliance.status_words import tell_status
from appliance.store.frames import FrameStore
from appliance.store.importing import BOXES_HELP, import_folders
from appliance.system import System
from appliance.systemd import START_AFRESH_EXIT_CODE
from appliance.terminal_qr import qr_lines
from appliance.web.guards import as_in_url

_SCAN_S = 120.0
_SAY_IT_S = 3.0  # for the page to hand over the proof


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 for success, 1 where it failed, 2 for a wrong option or setting; ``doctor`` gives 1 for a fault, ``camera``
        75 where it must be started afresh, 78 where it was forgotten.
    """
    options = _parser().parse_args(arguments)
    return run_command("sitecam", load, options.run, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sitecam", description="A camera that sees who wears a hardhat.")
    parser.add_argument("--version", action="version", version=f"sitecam {__version__}")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help=f"default: {DEFAULT_PATH}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    camera = commands.add_parser("camera", help="run the live loop and its page until stopped")
    camera.set_defaults(run=_camera)

    key = commands.add_parser("key", help="make this camera's key; print the file that the server needs")
    key.set_defaults(run=_key)

    enrolment = commands.add_parser("enrol", help="join a fleet with a code that its server shows, or a bundle")
    enrolment.add_argument("what", nargs="?", help="a code, a sitecam-join:// address, or a bundle file")
    enrolment.add_argument("--server", metavar="https://HOST:PORT", help="where the code is from")
    enrolment.add_argument("--scan", action="store_true", help="read the QR code that is held before the camera")
    enrolment.add_argument("--wait", type=float, default=60.0, metavar="MINUTES", help="for approval (default: 60)")
    enrolment.set_defaults(run=_enrol)

    imports = commands.add_parser("import", help="bring labelled pictures into the store")
    imports.add_argument("folder", type=Path, help="class folders, Edge Impulse's export, or a camera's (zip)")
    imports.add_argument(
        "--label-from",
        choices=["folders"],
        default="folders",
        help="a picture's label is its folder's name, or what info.labels says",
    )
    imports.add_argument("--boxes", choices=["crop", "ignore"], default="ignore", help=BOXES_HELP)
    imports.add_argument("--by", default="import", help="who labelled them (default: import)")
    imports.add_argument("--json", action="store_true", help="print the report as JSON")
    imports.set_defaults(run=_import)

    models = commands.add_parser("models", help="list the model versions on this camera, and why each (not)")
    models.add_argument("--json", action="store_true")
    models.set_defaults(run=_models)
    more = models.add_subparsers(metavar="list | add")
    listing = more.add_parser("list", help="the same")
    listing.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    adding = more.add_parser("add", help="try an Edge Impulse .eim on this camera: it is probed, judged, soaked")
    foreign_cli.add_options(adding)
    adding.set_defaults(run=_add_model)

    rollback = commands.add_parser("rollback", help="go back to the version before; the newer one is not tried again")
    rollback.set_defaults(run=_by_hand, wish="rollback", version=0)

    recover = commands.add_parser("recover", help="go to the version that enrolment brought, assembled afresh")
    recover.set_defaults(run=_by_hand, wish="recover", version=0)

    again = commands.add_parser("try", help="try a version again, whatever its verdict was")
    again.add_argument("version", type=int)
    again.set_defaults(run=_by_hand, wish="try")

    learn = commands.add_parser("learn-empty", help="take frames of the empty site and label them all in one go")
    learn.add_argument("--count", type=int, default=12, help="how many (default: 12)")
    learn.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="between two (default: 5)")
    learn.add_argument("--label", default="nobody", help="what they show (default: nobody)")
    learn.add_argument("--by", default=getpass.getuser(), help="who says so (default: you)")
    learn.add_argument("--json", action="store_true")
    learn.set_defaults(run=_learn_empty)

    login = commands.add_parser("login-code", help="make a one-time code with which somebody gets into the page")
    login.add_argument("--role", choices=get_args(Role), default="admin", help="what they may do (default: admin)")
    login.add_argument("--qr", action="store_true", help="show the address as a QR code too, for a phone")
    login.set_defaults(run=_login_code)

    state = commands.add_parser("status", help="say how the camera is; 1 where something is wrong")
    state.add_argument("--json", action="store_true")
    state.set_defaults(run=_status)

    token = commands.add_parser("metrics-token", help="print what a Prometheus server needs to read /metrics")
    token.set_defaults(run=_metrics_token)

    forgetting = commands.add_parser("forget", help="delete everything on this camera for good, and prove it")
    forgetting.add_argument("--yes-forget", metavar="NAME", required=True, help="the camera's name")
    forgetting.add_argument("--json", action="store_true")
    forgetting.set_defaults(run=_forget)

    check = commands.add_parser("doctor", help="look for faults, and say what to do")
    check.add_argument("--json", action="store_true")
    check.add_argument("--memory", action="store_true", help="how much memory each process of Sitecam's takes instead")
    check.set_defaults(run=_doctor)
    return parser


def _camera(settings: Settings, _: argparse.Namespace) -> int:
    from appliance.process import CameraProcess

    paths = CameraPaths(settings.state_dir)
    with camera_lock(settings.state_dir) as mine:
        if not mine:
            raise ConfigError(
                f"Another camera process runs on {settings.state_dir}",
                means="Two would fight over the camera and its models",
                do="Stop it, or give this one a state_dir of its own",
            )
        proof = resume(paths)  # somebody had it forgotten, and the power went
        if proof:
            print(proof.text(), flush=True)
            return FORGOTTEN_EXIT_CODE
        process = CameraProcess(settings)
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        process.start()
        print(f"{settings.camera.name}: {process.page.url}", flush=True)
        if process.page.accounts.empty:
            print("Nobody can log in yet: `sitecam login-code` makes a code for the first admin.", flush=True)
        while not ended.wait(1) and not process.forgetter.done:
            process.tell_systemd()
            why = process.must_restart
            if why:
                print(f"sitecam: {why}", file=sys.stderr, flush=True)
                process.stop()
                logging.shutdown()
                os._exit(START_AFRESH_EXIT_CODE)  # a driver that hangs would hold up Python's own end
        if process.forgetter.done:
            time.sleep(_SAY_IT_S)
        process.stop()
        proof = resume(paths)
        if proof:
            print(proof.text(), flush=True)
            return FORGOTTEN_EXIT_CODE
    return 0


def _key(settings: Settings, _: argparse.Namespace) -> int:
    print(make_node_key(CameraPaths(settings.state_dir)))
    return 0


def _enrol(settings: Settings, options: argparse.Namespace) -> int:
    paths = CameraPaths(settings.state_dir)
    with camera_lock(settings.state_dir) as mine:
        if mine:
            resume(paths)  # what somebody had forgotten goes before anything new comes
    alone = not (paths.fleet / "fleet.json").exists()
    if options.what and not options.scan and ("/" in options.what or "." in options.what) and "://" not in options.what:
        make_node_key(paths)
        version = enrol(paths, Path(options.what))
    else:
        invitation = _invitation(settings, options)
        try:
            version = join(paths, invitation, name=settings.camera.name.strip(), say=_say, wait_s=options.wait * 60)
        except KeyboardInterrupt:
            _say("Interrupted. The same command goes on from here.")
            return 130
    print(f"This camera belongs to {load_fleet(paths.fleet).name} and runs version {version}.")
    if alone and not mine:
        print("Its camera process, which runs, starts afresh within seconds and watches with that version.")
    return 0


def _invitation(settings: Settings, options: argparse.Namespace) -> Invitation:
    if options.scan:
        from appliance.camera.opening import open_source
        from appliance.scanning import scan

        _say(f"Hold the server's QR code before the camera, for at most {_SCAN_S:g} s")
        source, timeout_s = open_source(settings.camera), settings.camera.capture_timeout_s
        return scan(source, deadline_s=_SCAN_S, capture_timeout_s=timeout_s, say=_say)
    if not options.what:
        raise ConfigError("There is nothing to enrol with", do="Give a code, a bundle file, or --scan")
    if "://" in options.what:
        return read_uri(options.what)
    code = read_code(options.what)
    if not options.server:
        raise ConfigError(
            "A code alone does not say which server it is from",
            do="Add --server https://HOST:PORT, as the server shows it",
        )
    return Invitation(code, *read_address(options.server))


def _say(text: str) -> None:
    print(text, flush=True)


def _import(settings: Settings, options: argparse.Namespace) -> int:
    paths = CameraPaths(settings.state_dir)
    if fleet_of(paths):
        shelf = _shelf(settings)
        labels = shelf.manifest(shelf.current or 0).labels
    else:
        labels = DEFAULT_LABELS
    with FrameStore(paths.store) as store:
        report = import_folders(store, options.folder, labels=labels, by=options.by, crop=options.boxes == "crop")
    print(report.json() if options.json else report.text())
    return 0


def _models(settings: Settings, options: argparse.Namespace) -> int:
    rows = models_view.rows(_shelf(settings))
    if options.json:
        print(json.dumps([row.to_json() for row in rows], indent=1))
        return 0
    for row in rows:
        print(row.line())
    return 0


def _add_model(settings: Settings, options: argparse.Namespace) -> int:
    print(foreign_cli.add_foreign(settings, _shelf(settings), options))
    return 0


def _by_hand(settings: Settings, options: argparse.Namespace) -> int:
    shelf = _shelf(settings)
    target(shelf, options.wish, options.version)  # what can't be is said at once
    with camera_lock(settings.state_dir) as mine:
        if mine:
            print(do_it(shelf, options.wish, options.version, threads=settings.model.threads))
            return 0
    print(ask(shelf, options.wish, options.version))
    return 0


def _learn_empty(settings: Settings, options: argparse.Namespace) -> int:
    paths = CameraPaths(settings.state_dir)
    request = request_learning(paths, count=options.count, every_s=options.every, label=options.label, by=options.by)

    def progress(report: Report) -> None:
        if not options.json:
            print(f"  {report.taken} of {request.count} frames", flush=True)

    report = wait_for_report(paths, request, progress=progress)
    print(report.to_bytes().decode() if options.json else report.sentence)
    return int(not report.ok)


def _login_code(settings: Settings, options: argparse.Namespace) -> int:
    paths = CameraPaths(settings.state_dir)
    with contextlib.closing(Accounts(paths.accounts)) as accounts:
        code = accounts.new_code(options.role)
    page = settings.page
    addresses = [
        f"http{'s' if page.https else ''}://{host}:{page.port}/login#code={code.code}" for host in _hosts(page)
    ]
    print(f"{code.code}   makes one {code.role}, within {code.valid_minutes} minutes")
    print("\n".join(addresses))
    if options.qr:
        print(f"\n{qr_lines(addresses[0])}")
    if page.https:
        state = certificate_state(paths, datetime.now(UTC))
        if state.fingerprint:
            print(f"The page's certificate, SHA-256: {state.fingerprint}\n{state.sentence}")
    return 0


def _hosts(page: PageSettings) -> list[str]:
    """Under what the page can be opened: an address first, which needs nobody to know the name."""
    if page.host not in ("0.0.0.0", "::"):  # noqa: S104  # not bound here
        return [as_in_url(page.host)]
    addresses = [as_in_url(each) for each in own_addresses() if ":" not in each]
    return [*addresses, f"{socket.gethostname().partition('.')[0]}.local"]


def _status(settings: Settings, options: argparse.Namespace) -> int:
    status, text = tell_status(settings.state_dir, json_wanted=options.json)
    print(text)
    return status


def _metrics_token(settings: Settings, _: argparse.Namespace) -> int:
    print(metrics_token(CameraPaths(settings.state_dir).metrics_token))
    return 0


def _forget(settings: Settings, options: argparse.Namespace) -> int:
    paths = CameraPaths(settings.state_dir)
    proof = forget_by_command(paths, camera=settings.camera.name, typed=options.yes_forget, by=getpass.getuser())
    print(json.dumps(proof.to_json(), indent=1) if options.json else proof.text())
    return int(bool(proof.remains))


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    if options.memory:
        found = footprints()
        state = System(settings.state_dir).look()
        print(json.dumps([asdict(each) for each in found], indent=1) if options.json else memory_text(found, state))
        return 0
    findings = doctor.examine(settings)
    if options.json:
        print(doctor.as_json(findings))
    else:
        for finding in findings:
            print(finding.line())
    return int(any(finding.state == "fault" for finding in findings))


def _shelf(settings: Settings) -> Shelf:
    paths = CameraPaths(settings.state_dir)
    return Shelf(paths.models, load_fleet(paths.fleet).signing_key)


if __name__ == "__main__":
    sys.exit(main())
