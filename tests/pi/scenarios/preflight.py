"""What speaks against installing is said at once, all of it, each with its remedy; and nothing was changed."""

from __future__ import annotations

from tests.pi.filesystem import LIVES, differences, snapshot
from tests.pi.parts import Bench, install
from tests.pi.sources import HERE

_TAKE_PORT = (
    'systemd-run --quiet --unit=somebody python3 -c \'import socket, time; s = socket.create_server(("", 4912));'
    " time.sleep(600)'"
)
_NOT_64_BIT = "mount --bind /srv/dpkg /usr/bin/dpkg"


def run(bench: Bench) -> None:
    """Run it."""
    story = bench.story
    with bench.fresh("preflight") as machine:
        machine.write("/srv/dpkg", '#!/bin/sh\n[ "$1" = --print-architecture ] && echo armhf\n')
        machine.run("chmod 755 /srv/dpkg; sleep 3")
        machine.write("/srv/standins/clock-is-free", "")
        machine.run("sed -i 's/^VERSION_ID=.*/VERSION_ID=\"11\"/' /usr/lib/os-release")
        without = (*LIVES, "opt")
        before = snapshot(machine.root, without=without)
        machine.run(_TAKE_PORT)
        machine.run(_NOT_64_BIT)
        machine.run("mount -t tmpfs -o size=1g tmpfs /opt")
        said = install(machine, "camera --yes")
        story.quote(said.output)
        story.check(said.status == 69, f"install.sh ends with {said.status} (69)")
        for what, words in (
            ("a 32-bit system", "64-bit"),
            ("an old release", "11"),
            ("little room", "free under /opt"),
            ("a clock nobody sets", "clock"),
            ("a port that is taken", "Port 4912 is taken"),
            ("no camera: it goes on, but says so", "No camera was found"),
        ):
            story.check(words in said.output, f"it says: {what}")
        changed = differences(before, snapshot(machine.root, without=without))
        story.check(not changed, "nothing was changed", "\n".join(changed[:40]))
        somebody = "setpriv --reuid=1000 --regid=1000 --clear-groups"
        said = machine.run(f"chmod 755 /root && cd {HERE} && {somebody} ./install.sh upgrade /tmp", check=False)
        story.check(said.status == 77, f"without root it ends with {said.status} (77)", said.output)
