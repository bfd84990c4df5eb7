"""A second run of install.sh changes nothing: not one file's content, rights or time, and no service starts anew."""

from __future__ import annotations

from tests.pi.filesystem import differences, snapshot
from tests.pi.machine import Machine
from tests.pi.parts import Bench, install

_UNITS = "sitecam-camera.service sitecam-night.timer sitecam-reboot.path"


def run(bench: Bench) -> None:
    """Run it."""
    story = bench.story
    with bench.camera("again") as machine:
        _settle(machine)
        before, started = snapshot(machine.root), _invocations(machine)
        story.say(f"{len(before)} files")
        said = install(machine, "camera --yes")
        story.quote(said.output)
        story.check(said.ok, f"the second run ends with {said.status} after {said.took_s:.0f} s")
        changed = differences(before, snapshot(machine.root))
        story.check(not changed, "the second run changed no file", "\n".join(changed[:60]))
        story.check(_invocations(machine) == started, "no service was started anew", _invocations(machine))
        said = machine.run("sitecam-install camera --dry-run", check=False)
        story.check(said.ok, f"a dry run, through sitecam-install, ends with {said.status}", said.output)
        changed = differences(before, snapshot(machine.root))
        story.check(not changed, "the dry run changed no file", "\n".join(changed[:60]))


def _settle(machine: Machine) -> None:
    """What a system does by itself soon after it started is done."""
    machine.run(
        "systemctl stop apt-daily.timer apt-daily-upgrade.timer; systemctl start logrotate.service", check=False
    )
    machine.run("sleep 5")


def _invocations(machine: Machine) -> str:
    return machine.run(f"systemctl show --property=Id,InvocationID,ActiveState {_UNITS}").output
