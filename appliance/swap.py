"""Swaps a new model version in while the old one answers, or says why not.

verify -> stage -> probe -> activate -> soak -> commit; from anywhere, rollback with a reason. The pointer
``current`` changes only at commit, so a power cut before it boots the old version, and the offer, still there,
is tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from appliance.eim.pack import pack
from appliance.eim.runner import Impulse
from appliance.errors import SitecamError, SwapError
from appliance.frame import Pixels
from appliance.live import LiveLoop, Pace, RunningModel
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.verdict import SwapFigures, Verdict, read_verdict, write_verdict

logger = logging.getLogger(__name__)

_STEADY_S = 5.0  # where nothing is known of the loop's pace yet, watch it this long first


@dataclass(frozen=True)
class SwapRules:
    """What a new version has to show.

    Attributes:
        soak_decisions: So many decisions in live work, without a fault.
        soak_deadline_s: Within this time.
        exchange_deadline_s: How long the loop may take to reach the gap between two frames.
    """

    soak_decisions: int
    soak_deadline_s: float = 60.0
    exchange_deadline_s: float = 30.0


class Swapper:
    """Watches the shelf for an offered version and swaps it in.

    Args:
        shelf: Where versions lie.
        loop: The live loop.
        start: Starts an ``.eim`` file.
        threads: CPU threads that the model may use.
        rules: What a version has to show.
    """

    def __init__(
        self,
        shelf: Shelf,
        loop: LiveLoop,
        start: Callable[[Path], Impulse],
        *,
        threads: int,
        rules: SwapRules,
    ) -> None:
        self._shelf = shelf
        self._loop = loop
        self._start_impulse = start
        self._threads = threads
        self._rules = rules
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="swapper", daemon=True)
        self._since = loop.mark()

    def start(self) -> None:
        """Watch from now on."""
        self._since = self._loop.mark()
        self._thread.start()

    def stop(self, *, deadline_s: float = 10) -> None:
        """Watch no longer; a swap under way is abandoned and tried again after the next start."""
        self._stopping.set()
        self._thread.join(deadline_s)

    def _watch(self) -> None:
        while not self._stopping.wait(0.5):
            try:
                offered = self._shelf.offered
                if offered is not None:
                    self.swap(offered)
            except (SitecamError, OSError) as error:
                # A full disk or a damaged pointer: the loop goes on with what it has, and this is tried again.
                logger.error("The swap could not be finished: %s", error)
                self._stopping.wait(5)

    def swap(self, version: int) -> Verdict:
        """Swap a version in, and keep the verdict.

        Raises:
            OSError: The verdict or a pointer could not be written; the old version runs.
        """
        earlier = read_verdict(self._shelf.root, version)
        if earlier is not None:  # decided before a power cut took the offer's withdrawal
            self._shelf.withdraw_offer()
            return earlier
        steady = self._steady_pace()
        mark = self._loop.mark()
        try:
            self._earn(version)
            accepted = True
            reason = f"It answered every probe and {self._rules.soak_decisions} live frames"
        except SitecamError as error:
            accepted, reason = False, str(error)
        figures = _figures(self._loop.pace_since(mark), steady)
        verdict = Verdict(version, accepted, reason, datetime.now(UTC), figures)
        write_verdict(self._shelf.root, verdict)
        self._shelf.withdraw_offer()
        logger.info("Verdict on version %d: %s", version, reason)
        return verdict

    def _steady_pace(self) -> Pace:
        ends = time.monotonic() + _STEADY_S
        while self._loop.pace_since(self._since).decisions < 20 and time.monotonic() < ends:
            if self._stopping.wait(0.1):
                break
        return self._loop.pace_since(self._since)

    def _earn(self, version: int) -> None:
        path, manifest = stage(self._shelf, version, threads=self._threads)
        impulse = self._start_impulse(path)
        failed_before = self._loop.failed_answers
        deadline_s = self._rules.exchange_deadline_s
        try:
            probe(impulse, manifest)
            self._loop.exchange(RunningModel(version, impulse), timeout_s=deadline_s)
        except SitecamError:
            impulse.close()
            raise
        try:
            self._soak(version, failed_before)
            self._shelf.activate(version)
        except (SitecamError, OSError):
            self._loop.revert(timeout_s=deadline_s)
            raise
        self._loop.settle()

    def _soak(self, version: int, failed_before: int) -> None:
        mark = self._loop.mark()
        ends = time.monotonic() + self._rules.soak_deadline_s
        while True:
            if self._loop.failed_answers > failed_before:
                raise SwapError(
                    f"Version {version} failed in live work: {self._loop.last_failure}", means="The old one runs"
                )
            if self._loop.pace_since(mark).decisions >= self._rules.soak_decisions:
                return
            if time.monotonic() > ends or self._stopping.wait(0.05):
                raise SwapError(
                    f"Version {version} made fewer than {self._rules.soak_decisions} decisions in time",
                    means="It could not be judged in live work; the old one runs",
                    do="Look at the camera's fault on the page",
                )


def stage(shelf: Shelf, version: int, *, threads: int) -> tuple[Path, Manifest]:
    """Assemble a version's ``.eim`` from its verified parts, where that isn't done yet.

    Raises:
        ModelError: Signature, hash or shape is wrong.
        OSError: The disk refused.
    """
    manifest = shelf.manifest(version)
    path = shelf.impulse_path(version)
    backbone, head = (shelf.part(manifest.parts[role]) for role in ("backbone", "head"))
    if not path.exists():
        pack(manifest, backbone, head, path, threads=threads)
    return path, manifest


def probe(impulse: Impulse, manifest: Manifest) -> None:
    """Ask a freshly started impulse a few things that it must know.

    Raises:
        SwapError: It is not the version that the manifest names.
        ImpulseError: It doesn't answer.
    """
    info = impulse.info
    claims = (info.version, tuple(info.labels), info.input)
    if claims != (manifest.version, manifest.labels, manifest.input):
        raise SwapError(
            f"The .eim says it is version {info.version} with labels {', '.join(info.labels)}",
            means=f"The manifest says version {manifest.version} with {', '.join(manifest.labels)}; the old one runs",
        )
    for picture in _golden_pictures(manifest):
        impulse.classify(picture)  # the runner itself refuses scores that are not finite, or not the labels'


def _golden_pictures(manifest: Manifest) -> Sequence[Pixels]:
    shape = (manifest.input.height, manifest.input.width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), noise


def _figures(pace: Pace, steady: Pace) -> SwapFigures:
    return SwapFigures(pace.dropped, round(pace.longest_gap_ms, 1), round(steady.p99_gap_ms, 1))
