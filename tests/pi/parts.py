"""What scenarios have in common: fresh machines with the project unpacked, and cameras that were installed before."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import InstallError
from tests.pi.image import image_folder
from tests.pi.machine import Machine, Said
from tests.pi.network import Wire
from tests.pi.saying import Story
from tests.pi.sources import HERE, copy_sources, digest_of_sources

STANDINS = Path(__file__).parent / "standins"
INSTALL_S = 2400.0


@dataclass(frozen=True)
class Bench:
    """Where scenarios run.

    Attributes:
        work: Folder for everything that is made.
        suite: Of the image.
        story: Told what happens.
        reuse: Whether a camera that was installed before will do, though the sources have changed since.
    """

    work: Path
    suite: str
    story: Story
    reuse: bool = False

    @property
    def image(self) -> Path:
        """The root file system of a fresh machine.

        Raises:
            InstallError: It wasn't built.
        """
        folder = image_folder(self.work, self.suite)
        if not folder.is_dir():
            raise InstallError(
                f"There is no image of {self.suite}",
                do=f"python -m tests.pi image {self.suite} --work {self.work}",
            )
        return folder

    @property
    def enrolled_layer(self) -> Path:
        """Where scenario ``site`` leaves a camera that belongs to a fleet."""
        return self.work / "layers" / f"enrolled-{self.suite}"

    @contextmanager
    def enrolled(self, name: str) -> Iterator[Machine]:
        """A copy of that camera, alone in the world; it runs.

        Raises:
            InstallError: ``site`` has left none.
        """
        if not self.enrolled_layer.is_dir():
            raise InstallError("There is no camera with a fleet yet", do="Run the scenario site first")
        with Machine(name, [self.enrolled_layer, self.image], self.work) as machine:
            self.story.say(f"{name} has booted in {machine.boot():.1f} s")
            yield machine
            self.story.say(f"{name} is switched off after {machine.power_off():.1f} s")

    @contextmanager
    def fresh(self, name: str, *, wire: Wire | None = None) -> Iterator[Machine]:
        """A machine on which the project is unpacked, and nothing else was done; it runs."""
        with Machine(name, [self.image], self.work, wire=wire) as machine:
            copy_sources(machine.root / HERE.lstrip("/"))
            self.story.say(f"{name} has booted in {machine.boot():.1f} s")
            yield machine
            self.story.say(f"{name} is switched off after {machine.power_off():.1f} s")

    @contextmanager
    def camera(self, name: str) -> Iterator[Machine]:
        """A machine with a camera of its own, without a fleet; installed once for each state of the sources."""
        layers = self.work / "layers"
        layer = layers / f"camera-{self.suite}-{digest_of_sources()}"
        older = sorted(layers.glob(f"camera-{self.suite}-*"), key=lambda path: path.stat().st_mtime)
        if self.reuse and older:
            layer = older[-1]
        if not layer.is_dir():
            for old in older:
                shutil.rmtree(old)
            self.story.say("Installing a camera; later scenarios take a copy")
            with Machine("camera", [self.image], self.work) as machine:
                copy_sources(machine.root / HERE.lstrip("/"))
                machine.boot()
                said = install(machine, "camera --yes")
                if not said.ok:
                    raise InstallError(f"The camera could not be installed: {said.output[-4000:]}")
                machine.power_off()
                machine.keep_as(layer)
        with Machine(name, [layer, self.image], self.work) as machine:
            self.story.say(f"{name} has booted in {machine.boot():.1f} s")
            yield machine
            self.story.say(f"{name} is switched off after {machine.power_off():.1f} s")


def install(machine: Machine, arguments: str) -> Said:
    """Type ./install.sh and these in the unpacked folder."""
    return machine.run(f"cd {HERE} && ./install.sh {arguments}", check=False, deadline_s=INSTALL_S)


def one_time_code(output: str) -> str:
    """The code of the first login, as install.sh shows it.

    Raises:
        InstallError: It shows none.
    """
    found = re.search(r"([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}) +makes one admin", output)
    if not found:
        raise InstallError("install.sh shows no code for the first login")
    return found[1]


def is_up(machine: Machine, unit: str) -> bool:
    """Whether a unit is active."""
    return machine.run(f"systemctl is-active --quiet {unit}", check=False).ok


def journal(machine: Machine, unit: str, lines: int = 40) -> str:
    """A unit's last words."""
    return machine.run(f"journalctl --unit={unit} --lines={lines} --no-pager --output=cat", check=False).output


def release(machine: Machine) -> str:
    """Name of the release that runs."""
    return machine.run("basename $(readlink /opt/sitecam/current)", check=False).output.strip()


def unpack_again(machine: Machine, where: str) -> Path:
    """Another copy of the project inside, to be changed; return its path from outside."""
    folder = machine.root / where.lstrip("/")
    copy_sources(folder)
    return folder
