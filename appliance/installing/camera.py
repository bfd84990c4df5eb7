"""Makes this machine a camera, from nothing to a page that somebody can log in to."""

from __future__ import annotations

import re
import socket

from appliance.installing import codes, health, machine, services
from appliance.installing.defaults import find, read_settings, write_camera_settings
from appliance.installing.installation import Installation
from appliance.installing.releases import Release
from appliance.installing.roles import Wishes, check, confirm, place_services, plain, set_up

_JOINING_S = 3900.0  # the command itself waits an hour for somebody to approve
_SERVER = re.compile(r"(https://)?[A-Za-z0-9.:\[\]_-]+(:[0-9]+)?/?")
_CODE = re.compile(r"[A-Za-z0-9-]{4,40}|sitecam-join://[!-~]{1,500}")


def install_camera(installation: Installation, wishes: Wishes) -> int:
    """Install a camera, or finish what an interrupted run began; a second time nothing is left to do.

    Raises:
        InstallError: It can't be, or a step failed. Both say what to do.
    """
    _check_call(wishes)
    name = plain(wishes.name or socket.gethostname().partition(".")[0], "a camera's name")
    check(installation, "camera", wishes)
    if is_enrolled(installation):
        fleet = "and stays in its fleet"
    else:
        fleet = f"and joins the fleet of {wishes.server}" if wishes.server else "and works alone, without a fleet"
    confirm(installation, f"This machine becomes the camera {name!r} {fleet}.", wishes)
    release, changed = set_up(installation, "camera", wishes)
    zone = machine.time_zone(installation.layout, installation.runner)
    changed |= write_camera_settings(installation, name=name, zone=zone)
    installation.save()
    units = place_services(installation, release)
    changed |= _join(installation, release, wishes)
    code = installation.source if installation.runner.dry_run else release.code
    changed |= services.start(installation, code, "camera", restart=units) or bool(units)
    if installation.runner.dry_run:
        installation.runner.say("Nothing was changed: this was a dry run.")
        return 0
    return _finish(installation, release, changed=changed)


def is_enrolled(installation: Installation) -> bool:
    """Whether this camera belongs to a fleet."""
    return (installation.layout.state("camera") / "fleet/fleet.json").exists()


def _check_call(wishes: Wishes) -> None:
    if bool(wishes.server) != bool(wishes.code):
        raise codes.failure(
            codes.WRONG_CALL,
            "--server and --code belong together",
            means="Nothing was changed",
            do="sudo sitecam-server code --approve, on the server, shows both",
        )
    if wishes.server and not (_SERVER.fullmatch(wishes.server) and _CODE.fullmatch(wishes.code)):
        raise codes.failure(
            codes.WRONG_CALL,
            "That is no server, or no code",
            means="Nothing was changed",
            do="Type them as the server shows them: --server https://site-server:9443 --code K7QF-2M9X-4PTR",
        )


def _join(installation: Installation, release: Release, wishes: Wishes) -> bool:
    runner = installation.runner
    if is_enrolled(installation):
        if wishes.server:
            runner.say("This camera belongs to a fleet already; the code was not used.")
        return False
    if not wishes.server:
        return False
    if runner.ask(["systemctl", "is-active", "--quiet", "sitecam-camera.service"]).ok:
        runner.run(["systemctl", "stop", "sitecam-camera.service"])
    runner.run(
        [str(release.commands / "sitecam"), "enrol", wishes.code, "--server", wishes.server],
        say="Joining the fleet",
        secrets=[wishes.code],
        live=True,
        deadline_s=_JOINING_S,
    )
    return True


def _finish(installation: Installation, release: Release, *, changed: bool) -> int:
    runner = installation.runner
    if changed or "camera" not in installation.record.handed_over:
        runner.say("Waiting for the camera's page ...")
    wrong = health.wait_until_up(installation, "camera", must_be_well=False)
    if wrong:
        raise codes.failure(
            codes.FAILED,
            f"The camera was installed and does not work: {wrong}",
            means="Nothing of it was taken back",
            do=f"Its last words are at the end of {installation.layout.log}; sudo sitecam doctor says more",
        )
    if "camera" in installation.record.handed_over and not changed:
        runner.say(f"Everything is in place: {release.name}. Nothing was changed. sudo sitecam doctor looks at it.")
        return 0
    doctor = runner.run([str(release.commands / "sitecam"), "doctor"], check=False, deadline_s=240)
    runner.show(f"\nWhat sitecam doctor says:\n{doctor.output.rstrip()}\n{doctor.errors.strip()}".rstrip())
    _hand_over(installation, release)
    installation.record = installation.record.handed("camera")
    installation.save()
    return 0


def _hand_over(installation: Installation, release: Release) -> None:
    runner = installation.runner
    table = read_settings(installation, "camera")
    port = find(table, "page", "port", 4912)
    addresses = [word for word in runner.ask(["hostname", "--all-ip-addresses"]).output.split() if ":" not in word]
    runner.say(f"\nThis camera's page: {'  '.join(f'https://{address}:{port}/' for address in addresses)}")
    # what it says is a secret: on the screen, never in the log
    login = runner.ask([str(release.commands / "sitecam"), "login-code", "--qr"], deadline_s=60)
    runner.show(
        login.output.rstrip()
        if login.ok
        else f"sudo sitecam login-code makes a code for the first login. {login.errors}"
    )
    if not is_enrolled(installation):
        runner.say(
            "It works alone: no fleet, so no model and no nights yet. To join one: on the server"
            " `sudo sitecam-server code --approve`, and here the line that it shows."
        )
    runner.say(
        "Next: open the page, log in with the code, compare the certificate's fingerprint, and label a few frames.\n"
        f"What was done is in {installation.layout.log}; sudo sitecam doctor looks for faults."
    )
