"""The commands of ``sitecam-server`` that let cameras in and put them out, and the proxy they come through."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

from appliance.errors import StoreError
from appliance.join_code import address, short
from appliance.terminal_qr import qr_lines
from server import proxy
from server.admission import Admission
from server.config import ServerSettings
from server.superlink import SuperLink

_WHO = "command line"
_NAME_CHARACTERS = 32  # of a user, useradd(8)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add them to the program's parser; each sets ``run(settings, options)``."""
    code = commands.add_parser("code", help="show a code with which a camera may ask to be let in")
    code.add_argument("--minutes", type=float, default=15.0, help="how long it counts (default: 15)")
    code.add_argument("--cameras", type=int, default=1, help="how many may ask with it (default: 1)")
    code.add_argument("--approve", action="store_true", help="whoever brings it is let in, without a second look")
    code.add_argument("--json", action="store_true")
    code.set_defaults(run=_code)

    requests = commands.add_parser("requests", help="list the cameras that ask to be let in")
    requests.add_argument("--all", action="store_true", help="those too that were approved or refused")
    requests.add_argument("--json", action="store_true")
    requests.set_defaults(run=_requests)

    approve = commands.add_parser("approve", help="let a camera in that asks")
    approve.add_argument("request", metavar="NAME_OR_ID", help="as requests shows it")
    approve.set_defaults(run=_approve)

    refuse = commands.add_parser("refuse", help="send a camera away that asks")
    refuse.add_argument("request", metavar="NAME_OR_ID")
    refuse.add_argument("--reason", required=True, help="the camera says it on its screen")
    refuse.set_defaults(run=_refuse)

    revoke = commands.add_parser("revoke", help="put a camera out of the fleet, for good")
    revoke.add_argument("name")
    revoke.add_argument("--reason", required=True)
    revoke.set_defaults(run=_revoke)

    release = commands.add_parser("release", help="let a camera train again that was put on hold")
    release.add_argument("name")
    release.set_defaults(run=_release)

    front = commands.add_parser("proxy", help="run nginx, through which other machines reach this server")
    front.add_argument("--print", action="store_true", help="print its configuration instead")
    front.set_defaults(run=_proxy)


def _code(settings: ServerSettings, options: argparse.Namespace) -> int:
    code = _admission(settings, options).new_code(
        minutes=options.minutes, cameras=options.cameras, approve=options.approve, who=_who()
    )
    if options.json:
        print(json.dumps(asdict(code), indent=1))
        return 0
    print(
        f"Code         {code.text}\n"
        f"Server       {address(code.host, code.port)}\n"
        f"Authority    {short(code.fingerprint)}\n"
        f"Counts until {code.expires_utc}, for {options.cameras} camera{'s' * (options.cameras > 1)}\n\n"
        f"On a fresh machine: sudo ./install.sh camera --server https://{address(code.host, code.port)} --code"
        f" {code.text}\n"
        f"On an installed camera: sudo sitecam enrol {code.text} --server https://{address(code.host, code.port)}\n"
        "or hold this before it and: sitecam enrol --scan\n\n"
        f"{qr_lines(code.uri)}\n"
        + (
            "Whoever brings this code first is let in, without a second look: show it to nobody else."
            if options.approve
            else "Then, here: sitecam-server requests, and sitecam-server approve NAME"
        ),
        flush=True,
    )
    return 0


def _requests(settings: ServerSettings, options: argparse.Namespace) -> int:
    requests = _admission(settings, options).requests(open_only=not options.all)
    if options.json:
        print(json.dumps([asdict(request) for request in requests], indent=1))
        return 0
    for request in requests:
        state = request.decision or "waits"
        print(
            f"{request.id:>4}  {request.name:<20}  key {short(request.fingerprint)}  {request.address:<15}"
            f"  {request.asked_utc}  {state}{f': {request.reason}' if request.reason else ''}"
        )
    if not requests:
        print("No camera asks to be let in")
    return 0


def _approve(settings: ServerSettings, options: argparse.Namespace) -> int:
    admission = _admission(settings, options)
    camera = admission.approve(_find(admission, options.request), who=_WHO)
    print(f"{camera.name} is in, as node {camera.node_id}")
    return 0


def _refuse(settings: ServerSettings, options: argparse.Namespace) -> int:
    admission = _admission(settings, options)
    number = _find(admission, options.request)
    admission.refuse(number, options.reason, who=_WHO)
    print(f"Request {number} was refused")
    return 0


def _revoke(settings: ServerSettings, options: argparse.Namespace) -> int:
    _admission(settings, options).revoke(options.name, options.reason, who=_WHO)
    print(f"{options.name} belongs to the fleet no more: its next message is refused, and its key for good")
    return 0


def _release(settings: ServerSettings, options: argparse.Namespace) -> int:
    _admission(settings, options).release(options.name, who=_WHO)
    print(f"{options.name} may train again")
    return 0


def _proxy(settings: ServerSettings, options: argparse.Namespace) -> int:
    if not options.print:
        command = proxy.prepare(settings)
        os.execv(command[0], command)  # systemd then watches nginx itself
    print(proxy.configuration(settings), end="")
    return 0


def _who() -> str:
    """For the trail: who typed sudo, where somebody did."""
    person = os.environ.get("SUDO_USER", "")
    return f"{person}, {_WHO}" if person.isprintable() and 0 < len(person) <= _NAME_CHARACTERS else _WHO


def _admission(settings: ServerSettings, options: argparse.Namespace) -> Admission:
    return Admission(settings, SuperLink(settings, options.config))


def _find(admission: Admission, wanted: str) -> int:
    """The request that a person means by its number, or by a name that only one of those that wait has.

    Raises:
        StoreError: None or several.
    """
    if wanted.isascii() and wanted.isdigit():
        return int(wanted)
    waiting = admission.requests()
    found = [request.id for request in waiting if request.name == wanted]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{request.id} {request.name}" for request in waiting) or "none"
    raise StoreError(
        f"{len(found)} cameras named {wanted} wait" if found else f"No camera named {wanted} waits",
        means="Nothing was changed",
        do=f"Give the number. Waiting: {names}",
    )
