"""Makes this machine a site's server, and shows the one line that brings a camera to it."""

from __future__ import annotations

import json
import re
import secrets
import socket

from appliance.installing import codes, health, machine, services
from appliance.installing.defaults import find, read_settings, write_server_settings
from appliance.installing.installation import Installation
from appliance.installing.releases import Release
from appliance.installing.roles import Wishes, check, confirm, place_services, plain, set_up

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?")
_INIT_S = 3600.0


def install_server(installation: Installation, wishes: Wishes) -> int:
    """Install a server, or finish what an interrupted run began; a second time nothing is left to do.

    Raises:
        InstallError: It can't be, or a step failed. Both say what to do.
    """
    runner = installation.runner
    host = wishes.host or _own_name(installation)
    if not _HOST.fullmatch(host):
        raise codes.failure(
            codes.WRONG_CALL,
            f"{host!r} is neither a name nor an address",
            means="Nothing was changed",
            do="Give the one by which cameras reach this machine: --host site-server",
        )
    name = plain(wishes.name or "Site", "a fleet's name")
    check(installation, "server", wishes)
    confirm(installation, f"This machine becomes the server of the fleet {name!r}, reached as {host}.", wishes)
    release, changed = set_up(installation, "server", wishes)
    zone = machine.time_zone(installation.layout, runner)
    changed |= write_server_settings(installation, name=name, host=host, zone=zone)
    installation.save()
    changed |= _make_fleet(installation, release)
    password = _set_password(installation, release)
    units = place_services(installation, release)
    code = installation.source if runner.dry_run else release.code
    changed |= services.start(installation, code, "server", restart=units) or bool(units) or bool(password)
    if runner.dry_run:
        runner.say("Nothing was changed: this was a dry run.")
        return 0
    return _finish(installation, release, password, changed=changed)


def _own_name(installation: Installation) -> str:
    name = socket.gethostname()
    announced = installation.runner.ask(["systemctl", "is-active", "--quiet", "avahi-daemon.service"]).ok
    return f"{name}.local" if announced and "." not in name else name


def _make_fleet(installation: Installation, release: Release) -> bool:
    """Have keys, certificates and version 1; what exists is taken as it is."""
    state = installation.layout.state("server")
    if (state / "models/current").exists() and (state / "tls.pem").exists():
        return False
    installation.runner.run(
        [str(release.commands / "sitecam-server"), "init"],
        say="Making the fleet: keys, certificates, version 1 of the model (minutes)",
        live=True,
        deadline_s=_INIT_S,
    )
    return True


def _set_password(installation: Installation, release: Release) -> str:
    """Set a password for the fleet page where there is none; empty where there was one."""
    if (installation.layout.state("server") / "keys/page-password.json").exists():
        return ""
    password = "-".join(secrets.token_hex(2) for _ in range(5))  # 80 bits, and can be typed
    installation.runner.run(
        [str(release.commands / "sitecam-fleet"), "password", "--stdin"],
        say="Setting a password for the fleet page",
        given=f"{password}\n",
        secrets=[password],
    )
    return password


def _finish(installation: Installation, release: Release, password: str, *, changed: bool) -> int:
    runner = installation.runner
    if changed:
        runner.say("Waiting for the fleet page ...")
    wrong = health.wait_until_up(installation, "server", must_be_well=True)
    if wrong:
        raise codes.failure(
            codes.FAILED,
            f"The server was installed and does not work: {wrong}",
            means="Nothing of it was taken back",
            do=f"Its last words are at the end of {installation.layout.log}",
        )
    if "server" in installation.record.handed_over and not changed:
        runner.say(
            f"Everything is in place: {release.name}. Nothing was changed."
            " sudo sitecam-server code --approve lets a camera in."
        )
        return 0
    _hand_over(installation, release, password)
    installation.record = installation.record.handed("server")
    installation.save()
    return 0


def _hand_over(installation: Installation, release: Release, password: str) -> None:
    runner = installation.runner
    table = read_settings(installation, "server")
    host = find(table, "superlink", "host", "127.0.0.1")
    shown = f"[{host}]" if ":" in host else host
    port, page_port = find(table, "proxy", "port", 0), find(table, "proxy", "page_port", 0)
    runner.say(f"\nThe fleet page: https://{shown}:{page_port}/")
    if password:
        runner.show(f"Its password, shown this once: {password}")
        runner.say("Another one: sudo sitecam-fleet password")
    # what it says lets a camera in: on the screen, never in the log
    told = runner.ask([str(release.commands / "sitecam-server"), "code", "--approve", "--json"], deadline_s=60)
    code = _code_in(told.output) if told.ok else ""
    if code:
        runner.show(
            "\nOn each camera, within fifteen minutes (sudo sitecam-server code --approve makes another code):\n\n"
            f"    sudo ./install.sh camera --server https://{shown}:{port} --code {code}\n"
        )
    else:
        runner.say("sudo sitecam-server code --approve makes a code that lets a camera in.")
    runner.say(f"What was done is in {installation.layout.log}; sudo sitecam-server status says how the fleet is.")


def _code_in(output: str) -> str:
    try:
        return str(json.loads(output)["text"])
    except (ValueError, KeyError, TypeError):
        return ""
