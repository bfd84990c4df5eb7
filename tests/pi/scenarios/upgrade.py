"""A good release is switched to; one that falls over is left again by itself; an archive that lies is not used."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.pi.machine import Machine
from tests.pi.parts import INSTALL_S, Bench, is_up, journal, release, unpack_again


def run(bench: Bench) -> None:
    """Run it."""
    story = bench.story
    with bench.camera("upgrade") as machine:
        old = release(machine)
        folder = unpack_again(machine, "/root/good")
        _say(folder / "README.md", "\nA newer release.\n")
        _say(folder / "appliance/camera/health.py", "\n# a newer release\n")
        machine.run("cd /root && tar czf good.tar.gz good && rm -r good")
        said = machine.run("sitecam-install upgrade /root/good.tar.gz", check=False, deadline_s=INSTALL_S)
        story.quote(said.output)
        good = release(machine)
        story.check(said.ok and good != old, f"{old} -> {good}, status {said.status}, after {said.took_s:.0f} s")
        story.check(_answers(machine), "the camera's page answers")

        folder = unpack_again(machine, "/root/broken")
        _say(folder / "appliance/process.py", '\nraise RuntimeError("this release is broken")\n')
        said = machine.run("sitecam-install upgrade /root/broken", check=False, deadline_s=INSTALL_S)
        story.quote(said.output)
        story.check(
            said.status != 0 and release(machine) == good, f"a release that can't start: {said.status}, no switch"
        )
        story.check(_answers(machine), "the camera's page answers all the while")

        folder = unpack_again(machine, "/root/sick")
        _break_start(folder / "appliance/process.py")
        said = machine.run("sitecam-install upgrade /root/sick", check=False, deadline_s=INSTALL_S)
        story.quote(said.output)
        story.check(said.status == 75, f"a release that falls over once it runs ends with {said.status} (75)")
        story.check(release(machine) == good, f"{good} runs again", release(machine))
        story.check(
            is_up(machine, "sitecam-camera.service") and _answers(machine),
            f"the camera's page answers again, after {said.took_s:.0f} s in all",
            journal(machine, "sitecam-camera.service"),
        )

        _lying_archive(machine.root / "root/lying.tar.gz")
        said = machine.run("sitecam-install upgrade /root/lying.tar.gz", check=False)
        story.check(
            said.status == 65, f"an archive that climbs out of its folder ends with {said.status} (65)", said.output
        )
        story.check(not (machine.root / "root/climbed").exists(), "nothing of it was written")


def _say(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def _break_start(path: Path) -> None:
    """In the process's own start: everything still imports, and doctor finds nothing."""
    head, start, tail = path.read_text().rpartition("    def start(self) -> None:\n")
    path.write_text(f'{head}{start}        raise RuntimeError("this release falls over")\n{tail}')


def _answers(machine: Machine) -> bool:
    asked = "curl --silent --insecure --output /dev/null --write-out '%{http_code}' https://127.0.0.1:4912/login"
    return machine.run(f"for _ in $(seq 20); do {asked} | grep -q 200 && exit; sleep 2; done; exit 1", check=False).ok


def _lying_archive(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("sitecam/../../climbed")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"boo\n"))
