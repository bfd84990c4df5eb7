"""A program: restores a backup on copies of a machine, each cut off by SIGKILL at another step, then started again.

    python -m tests.fakes.restore_cut MACHINE BACKUP WORK_FOLDER

A restored state with a file named ``broken`` does not come up. One process with one thread forks a child for every
cut. Prints one JSON line per cut.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from appliance.errors import InstallError
from appliance.installing.installation import Installation
from appliance.installing.layout import Layout
from appliance.installing.placing import Places
from appliance.installing.restore import finish_interrupted, restore
from appliance.installing.restoring import Restoring, read_journal
from tests.fakes.debian import FakeDebian

Step = Callable[[str], None]


def _booted(root: Path) -> FakeDebian:
    """The machine after its power came back: services have started, as far as they can."""
    machine = FakeDebian(root)
    machine.broken = lambda _: (Layout(root).state("camera") / "broken").exists()
    machine.run(["systemctl", "start", "sitecam-camera.service"])
    return machine


def _restore(root: Path, file: Path, step: Step) -> None:
    machine = _booted(root)
    restore(Layout(root), machine, file, fetch=machine.fetch, pause=lambda _: None, step=step)


def _go_on(root: Path, step: Step) -> None:
    machine = _booted(root)
    installation = Installation(Layout(root), machine, Places(machine), fetch=machine.fetch, pause=lambda _: None)
    installation.load()
    journal = read_journal(Layout(root))
    if journal is not None:
        Restoring(installation, journal, step).go_on()


def _killed_at(number: int, work: Callable[[Step], None]) -> str:
    """The step at which a child that does the work killed itself; empty if it lived to its end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        steps = 0

        def step(name: str) -> None:
            nonlocal steps
            steps += 1
            if steps == number:
                os.write(writer, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            work(step)
        except InstallError:
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        name = told.read()
    os.waitpid(child, 0)
    return name


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_bytes().hex() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def main(arguments: list[str]) -> int:
    """Cut at the first step, the second, and so on until a run gets through."""
    template, file, work = map(Path, arguments)
    for name in (
        "sync",
        "fsync",
    ):  # a kill is no power cut: nothing need reach the disk, and that takes most of the time
        setattr(os, name, lambda *_: None)
    number = 0
    while True:
        number += 1
        root = work / str(number)
        shutil.copytree(template, root, symlinks=True)
        layout = Layout(root)
        cut = _killed_at(number, lambda step, root=root: _restore(root, file, step))  # type: ignore[misc]  # bound now
        always_there = layout.state("camera").is_dir() and (layout.state("camera") / "which").exists()
        # What goes on is cut off too, a little later in its own work; what comes after that is not.
        again = _killed_at(2, lambda step, root=root: _go_on(root, step)) if cut else ""  # type: ignore[misc]
        machine = _booted(root)
        try:
            finish_interrupted(layout, machine, fetch=machine.fetch, pause=lambda _: None)
        except InstallError as error:
            machine.say(str(error))
        report = {
            "cut": cut,
            "again": again,
            "always_there": always_there,
            "state": _files(layout.state("camera")),
            "settings": _files(layout.settings),
            "beside": sorted(path.name for path in layout.state("camera").parent.iterdir()),
            "journal": (layout.opt / "restoring.json").exists(),
            "runs": "sitecam-camera.service" in machine.active,
        }
        print(json.dumps(report), flush=True)
        shutil.rmtree(root)
        if not cut:
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
