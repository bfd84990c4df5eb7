"""This machine's figures and the cameras', gathered, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from appliance.board import Board, this_board
from appliance.eim.pack import pack
from appliance.errors import ConfigError, DatasetError, ModelError
from appliance.models.head import Head
from appliance.models.manifest import Manifest, Part
from appliance.models.shelf import Shelf
from appliance.system import System
from server.config import Precision, ServerSettings
from server.export.graft import graft
from server.export.one_file import backbone_of, labelled_pictures, precision_of
from server.fleet.boards import board_name, board_takes, milliseconds, size
from server.fleet.history import History
from server.paths import ServerPaths
from server.profiling.measure import Measured, measure
from server.roster import Roster

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_PICTURES = 8  # different ones: what a picture shows does not change how long it takes


@dataclass(frozen=True)
class Row:
    """The model in one precision, on this machine.

    Attributes:
        precision: Of the backbone's arithmetic.
        cameras: Whether the fleet's cameras run this one.
        measured: None where it could not be made.
        tflite_bytes: Size of the model as one .tflite; None likewise.
        why_not: Why it could not be made.
    """

    precision: Precision
    cameras: bool
    measured: Measured | None = None
    tflite_bytes: int | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Profile:
    """Everything.

    Attributes:
        fleet: Its name.
        version: That was measured.
        board: This machine.
        rows: By precision.
        cameras: By name, what each told last, and when (ISO 8601); None of one that told nothing.
    """

    fleet: str
    version: int
    board: Board
    rows: Sequence[Row]
    cameras: Mapping[str, tuple[str, Board] | None]

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "fleet": self.fleet,
            "version": self.version,
            "machine": asdict(self.board),
            "precisions": [asdict(row) for row in self.rows],
            "cameras": {
                name: None if told is None else {"told_utc": told[0], **asdict(told[1])}
                for name, told in self.cameras.items()
            },
        }

    def text(self) -> str:
        """For people: a terminal of 100 columns."""
        threads = "1 thread" if self.board.threads == 1 else f"{self.board.threads} threads"
        lines = [f"{self.fleet}, version {self.version}, on this machine: {board_name(self.board)}, {threads}", ""]
        heads = ("", "median", "p99", "of", "memory (PSS)", "(RSS)", ".eim", ".tflite")
        lines += _table([heads, *(_cells(row) for row in self.rows if row.measured)])
        lines += [f"{row.precision}: not measured. {row.why_not}" for row in self.rows if row.measured is None]
        lines += ["", "Cameras, as they told when the last night began:", ""]
        if not self.cameras:
            return "\n".join([*lines, "none"])
        return "\n".join([*lines, *_table([_told(name, told) for name, told in self.cameras.items()])])


def profile(
    settings: ServerSettings,
    paths: ServerPaths,
    shelf: Shelf,
    manifest: Manifest,
    *,
    threads: int,
    inferences: int,
    say: Callable[[str], None],
) -> Profile:
    """Measure a version here in both precisions, and gather what the cameras told.

    Args:
        settings: The server's.
        paths: Its state folder.
        shelf: Its models.
        manifest: Of the version.
        threads: CPU threads for one inference.
        inferences: How many pictures are measured.
        say: Told each step.

    Raises:
        ModelError: The fleet's own precision can't be made or measured.
        ImpulseError: Likewise.
    """
    bench = _Bench(settings, paths, shelf, manifest, threads, inferences, say)
    rows = [bench.row(precision) for precision in PRECISIONS]
    board = dataclasses.replace(this_board(System(paths.root).look()), threads=threads)
    words = History(paths.registry).last_words()
    told = {camera.name: words.get(camera.name) for camera in Roster(paths.registry).cameras()}
    cameras = {
        name: None if word is None or word.status.board is None else (word.at_utc, word.status.board)
        for name, word in told.items()
    }
    return Profile(manifest.fleet, manifest.version, board, rows, cameras)


@dataclass(frozen=True)
class _Bench:
    """As :func:`profile` was asked."""

    settings: ServerSettings
    paths: ServerPaths
    shelf: Shelf
    manifest: Manifest
    threads: int
    inferences: int
    say: Callable[[str], None]

    def row(self, precision: Precision) -> Row:
        """One precision; the fleet's own must be had, the other one may be missing."""
        own = precision_of(self.shelf.part(self.manifest.parts["backbone"])) == precision
        self.say(f"measuring {precision}")
        try:
            fleet = self.settings.fleet
            backbone = backbone_of(self.paths, self.shelf, self.manifest, precision, fleet=fleet, say=self.say)
        except (ModelError, DatasetError, ConfigError) as error:
            if own:
                raise
            return Row(precision, own, why_not=str(error))
        head = self.shelf.part(self.manifest.parts["head"])
        whole = graft(backbone, Head.from_bytes(head))
        return Row(precision, own, self._measured(backbone, head), len(whole))

    def _measured(self, backbone: bytes, head: bytes) -> Measured:
        parts = {**self.manifest.parts, "backbone": Part.of(backbone)}
        pictures, _ = labelled_pictures(self.paths, self.manifest.input, limit=_PICTURES)
        if not len(pictures):
            shape = (_PICTURES, self.manifest.input.height, self.manifest.input.width, 3)
            pictures = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        with tempfile.TemporaryDirectory(prefix="sitecam-profile-") as folder:
            eim = Path(folder) / "impulse.eim"
            pack(dataclasses.replace(self.manifest, parts=parts), backbone, head, eim, threads=self.threads)
            return measure(eim, pictures, inferences=self.inferences)


def _cells(row: Row) -> tuple[str, ...]:
    it = row.measured
    assert it is not None  # noqa: S101  # the caller asked
    pss, rss = ("?" if value is None else size(value) for value in (it.pss_bytes, it.rss_bytes))
    name = f"{row.precision} (the cameras')" if row.cameras else row.precision
    times = (milliseconds(it.median_ms), milliseconds(it.p99_ms), str(it.inferences))
    return (name, *times, pss, rss, size(it.file_bytes), size(row.tflite_bytes or 0))


def _told(name: str, told: tuple[str, Board] | None) -> tuple[str, ...]:
    if told is None:
        return (name, "has not told yet", "")
    at_utc, board = told
    return (name, f"{board_name(board)} ({board.machine})", f"{board_takes(board)}; {at_utc[:10]}")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
