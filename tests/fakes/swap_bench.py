"""A live loop on a real, tiny .eim, and shelves on which a second version waits to be swapped in."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

from appliance import files, swap
from appliance.canary import Canary
from appliance.capture import Capture
from appliance.decide import Decider
from appliance.eim import pack
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.errors import CaptureTimeoutError
from appliance.frame import Frame
from appliance.live import LiveLoop, RunningModel
from appliance.models.shelf import Shelf
from appliance.models.trial import Trial, write_trial
from appliance.staging import stage
from appliance.starter import Starter
from appliance.swap import Swapper, SwapRules
from tests.fakes.eim_faults import write_version
from tests.fakes.eim_traces import Traces
from tests.fakes.fleet import TinyFleet
from tests.fakes.live_parts import ClickCamera
from tests.fakes.parts import LABELS

OLD, NEW = 1, 2


class PausedCamera(ClickCamera):
    """A camera that gives a frame every few milliseconds, but for while it is paused."""

    def __init__(self, every_s: float) -> None:
        super().__init__(every_s=every_s)
        self.runs = threading.Event()
        self.runs.set()

    def capture(self, timeout_s: float) -> Frame:
        if not self.runs.wait(timeout_s):
            raise CaptureTimeoutError(f"no frame within {timeout_s} s")
        return super().capture(timeout_s)


@dataclass(frozen=True)
class Patience:
    """How long the new version may take; the old one always has long."""

    start_s: float = 20.0
    reply_s: float = 20.0
    memory_bytes: int = 0


@dataclass
class Case:
    """One shelf: version 1 runs, version 2 waits.

    Attributes:
        instead: Started in place of version 2's own file.
        damage: Done to version 2's file between its assembly and its start.
        starts: Versions in the order in which they were started.
    """

    shelf: Shelf
    store: Path
    patience: Patience = field(default_factory=Patience)
    instead: Path | None = None
    damage: Callable[[Path], None] = lambda _: None
    starts: list[int] = field(default_factory=list)

    def start(self, path: Path) -> RunningImpulse:
        """Start an ``.eim`` for real."""
        new = path == self.shelf.impulse_path(NEW)
        self.starts.append(NEW if new else OLD)
        if not new:
            return start_impulse(path)
        self.damage(path)
        return start_impulse(
            self.instead or path,
            start_deadline_s=self.patience.start_s,
            reply_deadline_s=self.patience.reply_s,
            memory_bytes=self.patience.memory_bytes,
        )


class SwapBench:
    """The loop, alive over many cases; version 1 is a real .eim of its own.

    Args:
        root: For the fleet's key.
        backbone: The tiny backbone.
    """

    def __init__(self, root: Path, backbone: bytes) -> None:
        self.fleet = TinyFleet(root, backbone)
        self.camera = PausedCamera(every_s=0.004)
        self._case = self.case(root / "first")
        self.first_eim = self._case.shelf.impulse_path(OLD)
        self.loop = LiveLoop(lambda: self.starter(), decide=Decider(0.6))
        self.capture = Capture(self.camera, self.loop.take, timeout_s=60, rate_fps=250)
        self.starter = Starter(self._case.shelf, self._case.start, threads=1)
        self.loop.start()
        self.capture.start()
        self.decides(OLD)

    def stop(self) -> None:
        self.camera.runs.set()
        self.capture.stop()
        self.loop.stop()

    def case(self, root: Path, **changes: object) -> Case:
        """A shelf with version 2 offered; ``changes`` go into its manifest."""
        shelf = self.fleet.shelf(root / "models", OLD)
        stage(shelf, shelf.manifest(OLD), threads=1)
        shelf.accept(*self.fleet.version(NEW, **changes))
        shelf.offer(NEW)
        return Case(shelf, root / "store")

    def use(self, case: Case) -> None:
        """The loop restarts what this shelf says from now on."""
        self._case = case
        self.starter = Starter(case.shelf, case.start, threads=1)

    def swapper(self, case: Case, *, entered: Callable[[Trial], None] = lambda _: None, **rules: float) -> Swapper:
        """A swapper for this shelf."""
        given = {"soak_decisions": 10, "soak_deadline_s": 20, "exchange_deadline_s": 10, "retry_s": 0.1} | rules
        soak = int(given.pop("soak_decisions"))
        return Swapper(
            case.shelf,
            self.loop,
            case.start,
            Canary(case.store, case.shelf, case.start, margin=0.05),
            threads=1,
            rules=SwapRules(soak, **given),
            entered=entered,
        )

    def decides(self, version: int, *, decisions: int = 5, within_s: float = 20) -> None:
        """Fails unless the loop makes further decisions, and with that version."""
        ends, mark = time.monotonic() + within_s, self.loop.mark()
        while time.monotonic() < ends:
            if self.loop.version == version and self.loop.pace_since(mark).decisions >= decisions:
                return
            time.sleep(0.01)
        raise AssertionError(
            f"version {self.loop.version} made {self.loop.pace_since(mark).decisions} decisions in {within_s} s, "
            f"not version {version} {decisions}: {self.loop.model_fault}"
        )

    def home(self) -> None:
        """Back to version 1, whatever runs."""
        if self.loop.version != OLD:
            self.loop.exchange(RunningModel(OLD, start_impulse(self.first_eim)), timeout_s=10)
            self.loop.settle()
        self.decides(OLD)


def kinds(traces: Traces) -> tuple[Counter[str], int, Counter[str]]:
    """What a process holds on to, without numbers: what comes in another's place is no leak."""
    descriptors = Counter(re.sub(r"[0-9a-f]{6,}|\d+", "N", name) for name in traces.descriptors.elements())
    return descriptors, traces.children.total(), traces.threads


class FullDisk:
    """A disk that is full from a certain write on, until there is room again.

    Args:
        at: A trial's state, or the name of a file, whose writing finds no room.
    """

    def __init__(self, at: str) -> None:
        self.at = at
        self.full = False
        self.only = False  # just that one file
        self.refused = 0

    def room(self) -> None:
        """From now on everything can be written."""
        self.at, self.full = "", False

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """While this lasts, whatever Sitecam writes goes to this disk."""
        real = files.written_atomically

        @contextmanager
        def written(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
            hit = path.name == self.at
            self.full = self.full or (hit and not self.only)
            if self.full or hit:
                self.refused += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            with real(path, mode=mode) as file:
                yield file

        def entering(models: Path, trial: Trial) -> None:
            self.full = self.full or str(trial.state) == self.at
            write_trial(models, trial)

        with (
            patch.object(files, "written_atomically", written),
            patch.object(pack, "written_atomically", written),
            patch.object(swap, "write_trial", entering),
        ):
            yield


Arrange = Callable[[SwapBench, Case], None]


def other(fault: str = "none", *, at_frame: int = 1, labels: tuple[str, ...] = LABELS, version: int = NEW) -> Arrange:
    """The new version is a fake with such a fault, from that frame on."""

    def arrange(_: SwapBench, case: Case) -> None:
        path = case.shelf.root.parent / "new.eim"
        case.instead = write_version(path, version, labels=labels, fault=fault, at_frame=at_frame)

    return arrange
