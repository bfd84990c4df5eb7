"""PiCamera on an unmodified picamera2 and libcamera's virtual camera passes the CameraSource contract suite."""

from __future__ import annotations

import re

from tests.pi.parts import STANDINS, Bench
from tests.pi.sources import copy_sources

_TESTS = "/srv/project"


def run(bench: Bench) -> None:
    """Run it."""
    story = bench.story
    with bench.camera("contract") as machine:
        copy_sources(machine.root / _TESTS.lstrip("/"), tests=True)
        machine.put(STANDINS / "camera_contract.py", f"{_TESTS}/camera_contract.py")
        machine.run("systemctl stop sitecam-camera.service")
        machine.run("apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-pytest")
        story.quote(
            machine.run(
                "dpkg-query --show python3-picamera2 python3-libcamera python3-numpy; id sitecam", check=False
            ).output
        )
        # PYTHONPATH: the tests import the working tree's modules, not the release's
        said = machine.run(
            f"cd {_TESTS} && setpriv --reuid=sitecam --regid=sitecam --init-groups"
            f" env HOME=/var/lib/sitecam PYTHONPATH={_TESTS} PYTHONDONTWRITEBYTECODE=1"
            " /opt/sitecam/current/camera/bin/python -m pytest --noconftest -p no:cacheprovider -v"
            " -W 'ignore:setDaemon:DeprecationWarning'"  # picamera2's own, not ours to mend
            " --override-ini addopts= camera_contract.py",
            check=False,
            deadline_s=300,
        )
        story.quote(said.output, last=80)
        passed = re.search(r"([0-9]+) passed", said.output)
        story.check(
            said.ok and passed is not None and "failed" not in said.output,
            f"the contract suite, as user sitecam: {passed[0] if passed else 'nothing passed'} in {said.took_s:.0f} s",
        )
