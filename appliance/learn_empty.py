"""Captures the empty site in one go, as labelled frames: ``sitecam learn-empty``.

The command can't open the camera, which the camera process holds. So it leaves a request in the state folder; the
camera process takes frames over a stretch of time, stores them with their label, leaves a report and removes the
request. Frames of one minute in one place are one scene, and a scene is never split between training and testing:
all frames of a request go to one side, and the next request, at another hour, to the side that then has too few.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from appliance.errors import CameraError, ConfigError, SitecamError, StoreError
from appliance.files import write_atomically
from appliance.frame import Decision, Frame
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore, NewFrame, Split
from appliance.tap import Tap
from appliance.vision import encode_jpeg
from datasets.likeness import NEAR_BITS, distances, likeness, stacked

logger = logging.getLogger(__name__)

SOURCE = "learn-empty"
REQUEST = "learn-empty.json"
REPORT = "learn-empty-report.json"
MOST_FRAMES = 100
LONGEST_S = 600.0

_LOOK_EVERY_S = 0.5  # for a request
_TRAIN_PER_TEST = 4  # as the store draws its splits


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        count: Frames, 1 to MOST_FRAMES.
        every_s: Between two of them; the whole takes at most LONGEST_S.
        label: What they show.
        by: Who says so.
        asked_utc: Timezone-aware UTC; also tells one request from another.
    """

    count: int
    every_s: float
    label: str
    by: str
    asked_utc: datetime

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_FRAMES:
            raise ConfigError(f"{self.count} frames can't be asked for", do=f"Ask for 1 to {MOST_FRAMES}")
        if not 0 <= self.every_s * self.count <= LONGEST_S:
            raise ConfigError(
                f"{self.count} frames, one every {self.every_s:g} s, take longer than {LONGEST_S / 60:.0f} minutes",
                do="Ask for fewer, or closer together",
            )
        if not self.label or not self.by:
            raise ConfigError("A request needs a label and the name of who asks")

    def to_bytes(self) -> bytes:
        """JSON."""
        return json.dumps(dataclasses.asdict(self) | {"asked_utc": self.asked_utc.isoformat()}).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Request:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ConfigError, ValueError, KeyError, TypeError: It isn't one.
        """
        body: Mapping[str, Any] = json.loads(data)
        asked_utc = datetime.fromisoformat(body["asked_utc"])
        if asked_utc.tzinfo is None:
            raise ValueError("its time has no time zone")
        return Request(int(body["count"]), float(body["every_s"]), str(body["label"]), str(body["by"]), asked_utc)


@dataclass(frozen=True)
class Report:
    """How a request goes, or went.

    Attributes:
        asked_utc: The request's.
        finished: False while frames are still being taken.
        ok: Whether frames were stored.
        taken: Frames taken.
        stored: Frames that the store did not have yet.
        changed: Frames left out because they don't look like the others: something moved.
        split: Where they went; empty where nothing was stored.
        sentence: For people.
    """

    asked_utc: datetime
    finished: bool
    ok: bool
    taken: int
    stored: int
    changed: int
    split: str
    sentence: str

    def to_bytes(self) -> bytes:
        """JSON."""
        return json.dumps(dataclasses.asdict(self) | {"asked_utc": self.asked_utc.isoformat()}).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Report:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ValueError, KeyError, TypeError: It isn't one.
        """
        body: dict[str, Any] = json.loads(data)
        return Report(**(body | {"asked_utc": datetime.fromisoformat(body["asked_utc"])}))


class EmptyLearner:
    """The listener in the camera process that does what a request asks.

    Called with every frame it only hands a reference over; reading the request, encoding and storing happen in a
    thread that lives as long as the request.

    Args:
        paths: The camera's state folder.
        labels: Those of the model that runs; empty while none does.
        store: The camera's; opened for each request where it is left out.
        clock: Monotonic seconds, for how often to look.
    """

    def __init__(
        self,
        paths: CameraPaths,
        labels: Callable[[], Sequence[str]],
        *,
        store: FrameStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._labels = labels
        self._store = store
        self._clock = clock
        self._looked = float("-inf")
        self._tap = Tap()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Hand a frame over where one is wanted; look for a request twice a second."""
        self._tap(frame, decision)
        now = self._clock()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        if self._busy or not os.path.exists(self._paths.root / REQUEST):  # noqa: PTH110  # no Path on every frame's way
            return
        self._thread = threading.Thread(target=self._work, name="learn-empty", daemon=True)
        self._thread.start()

    def stop(self, *, deadline_s: float = 5) -> None:
        """End what is under way; what was not stored yet is lost, and the request stays for the next start."""
        self._stopping.set()
        self._tap.close()
        if self._thread is not None:
            self._thread.join(deadline_s)

    @property
    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        request_path, report_path = self._paths.root / REQUEST, self._paths.root / REPORT
        asked_utc = datetime.now(UTC)
        try:
            try:
                request = Request.from_bytes(request_path.read_bytes())
                asked_utc = request.asked_utc
                report = self._answer(request, report_path)
            except (SitecamError, OSError, ValueError, KeyError, TypeError) as error:
                logger.error("Learning the empty site failed: %s", error)
                report = _refused(asked_utc, f"Nothing was learned: {error}")
            if report is None:
                return
            logger.info("%s", report.sentence)
            write_atomically(report_path, report.to_bytes())
            request_path.unlink(missing_ok=True)
        except OSError as error:
            logger.error("The report on learning the empty site could not be written (%s)", error)

    def _answer(self, request: Request, report_path: Path) -> Report | None:
        """Do what was asked; None where the process ends before it is done."""
        if age_s(request) > LONGEST_S:
            return _refused(request.asked_utc, "The request was more than ten minutes old, so nothing was learned.")
        labels = tuple(self._labels())
        if request.label not in labels:
            known = ", ".join(labels) or "none, because no model runs"
            return _refused(request.asked_utc, f"The model has no label {request.label!r}. Its labels: {known}.")
        shots: list[_Shot] = []
        for number in range(request.count):
            begun = Report(request.asked_utc, False, False, number, 0, 0, "", "Taking frames.")
            write_atomically(report_path, begun.to_bytes())
            if number and self._stopping.wait(request.every_s):
                return None
            seen = self._tap.next(LONGEST_S - age_s(request))
            if seen is None:
                break
            shots.append(_Shot.of(seen[0]))
        if self._stopping.is_set():
            return None
        if not shots:
            return _refused(request.asked_utc, "No picture came from the camera, so nothing was learned.")
        with nullcontext(self._store) if self._store else FrameStore(self._paths.store) as store:
            return _keep(store, request, shots)


@dataclass(frozen=True)
class _Shot:
    """A frame that was taken, as a JPEG file: a hundred of them as pixels would not fit into a small Pi's memory."""

    jpeg: bytes
    taken_utc: datetime
    likeness: bytes

    @staticmethod
    def of(frame: Frame) -> _Shot:
        return _Shot(encode_jpeg(frame.pixels), frame.taken_utc, likeness(frame.pixels))


def _keep(store: FrameStore, request: Request, shots: Sequence[_Shot]) -> Report:
    """Store the frames that look like one another, all on one side."""
    hashes = [shot.likeness for shot in shots]
    apart = np.stack([distances(stacked(hashes), each) for each in hashes])
    alike = apart[int(apart.sum(axis=1).argmin())] <= NEAR_BITS  # to the frame in their midst
    kept = [shot for shot, same in zip(shots, alike, strict=True) if same]
    changed = len(shots) - len(kept)
    if 2 * len(kept) < len(shots):
        return dataclasses.replace(
            _refused(
                request.asked_utc,
                f"The picture kept changing: only {len(kept)} of {len(shots)} frames look alike, so nothing was"
                " stored. Ask again when nothing moves.",
            ),
            taken=len(shots),
            changed=changed,
        )
    counts = store.counts()
    train, test = (counts.get(split, {}).get(request.label, 0) for split in ("train", "test"))
    wish: Split = "test" if train > _TRAIN_PER_TEST * test else "train"
    added = store.add_all(
        [NewFrame(shot.jpeg, shot.taken_utc, SOURCE, request.label, request.by, wish) for shot in kept]
    )
    stored = sum(each.new for each in added)
    splits = sorted({each.frame.split for each in added})
    side = " and ".join({"train": "training", "test": "testing"}[split] for split in splits)
    sentence = (
        f"Stored as {request.label}: {stored} of {len(shots)} frames, all for {side}, because they are one scene."
        f" Look through them on the page, and ask again at another hour and in other light."
    )
    if changed:
        sentence += f" {changed} of {len(shots)} were left out because something moved in them."
    if stored < len(kept):
        sentence += f" {len(kept) - stored} were exactly the same picture as one that is there."
    return Report(request.asked_utc, True, True, len(shots), stored, changed, ",".join(splits), sentence)


def _refused(asked_utc: datetime, sentence: str) -> Report:
    return Report(asked_utc, True, False, 0, 0, 0, "", sentence)


def age_s(request: Request) -> float:
    """How old a request is, seconds; one from the future, before a clock was set back, is as wrong as an old one."""
    return abs((datetime.now(UTC) - request.asked_utc).total_seconds())


# For the command


def request_learning(paths: CameraPaths, *, count: int = 12, every_s: float = 5.0, label: str, by: str) -> Request:
    """Leave a request for the camera process.

    Raises:
        ConfigError: Too many frames or too long.
        StoreError: Another request is under way.
        OSError: The state folder can't be written.
    """
    request = Request(count, every_s, label, by, datetime.now(UTC))
    path = paths.root / REQUEST
    if read_request(paths) is not None:
        raise StoreError(
            "The empty site is being learned already",
            means="One request is carried out at a time",
            do=f"Wait until it is done (ten minutes at most), or remove {path} if no camera process runs",
        )
    path.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    write_atomically(temporary, request.to_bytes())
    try:
        os.link(temporary, path)  # of two commands at once only one gets the name
    except FileExistsError as error:
        raise StoreError("The empty site is being learned already", do="Wait until it is done") from error
    finally:
        temporary.unlink(missing_ok=True)
    return request


def read_request(paths: CameraPaths) -> Request | None:
    """The request that waits or is under way; None without one, or where nobody will carry it out any more."""
    try:
        request = Request.from_bytes((paths.root / REQUEST).read_bytes())
    except FileNotFoundError:
        return None
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is no request (%r)", paths.root / REQUEST, error)
        return None
    return request if age_s(request) <= LONGEST_S else None


def wait_for_report(
    paths: CameraPaths,
    request: Request,
    *,
    answer_s: float = 10.0,
    progress: Callable[[Report], None] = lambda _: None,
    poll_s: float = 0.2,
) -> Report:
    """Wait until a request is carried out.

    Args:
        paths: The camera's state folder.
        request: As :func:`request_learning` returned it.
        answer_s: The camera process must have begun by then, and then write again for every frame.
        progress: Called with every new report on the way.
        poll_s: Between two looks.

    Raises:
        CameraError: No camera process took the request, or it stopped on the way; the request is withdrawn.
    """
    last: Report | None = None
    ends = time.monotonic() + answer_s
    while time.monotonic() < ends:
        report = read_report(paths)
        if report is not None and report.asked_utc == request.asked_utc and report != last:
            last = report
            if report.finished:
                return report
            progress(report)
            ends = time.monotonic() + request.every_s + answer_s
        time.sleep(poll_s)
    (paths.root / REQUEST).unlink(missing_ok=True)
    if last is None:
        raise CameraError(
            f"No camera process took the request within {answer_s:.0f} s",
            means="Nothing was learned; the request is withdrawn",
            do="Start sitecam-camera, see that the page shows a picture, and ask again",
        )
    raise CameraError(
        f"The camera process stopped after {last.taken} of {request.count} frames",
        means="Nothing was stored; the request is withdrawn",
        do="Look at the page and its log, and ask again",
    )


def read_report(paths: CameraPaths) -> Report | None:
    """How the newest request goes, or went; None where there was none."""
    path = paths.root / REPORT
    try:
        return Report.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s is no report (%r)", path, error)
        return None
