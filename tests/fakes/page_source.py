"""A stand-in for the live loop behind the page: a drawn building site, and a status that a test sets."""

from __future__ import annotations

import functools
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from appliance.events import Event
from appliance.frame import Decision, Doubt, Frame, Pixels, Prediction
from appliance.night_status import NightStatus
from appliance.web.source import ModelChange, PageCondition, PageStatus, PageVerdict

LABELS = ("hardhat", "head", "nobody")


def typical_status() -> PageStatus:
    """A camera that works, in the middle of its second night."""
    now = datetime.now(UTC)
    return PageStatus(
        camera="North gate",
        fleet="Harbour site",
        labels=LABELS,
        model_version=7,
        model_since_utc=now - timedelta(days=1, hours=3),
        decisions_per_s=9.8,
        frames_dropped=3,
        night=NightStatus("training", "2026-11-22", 2, 3, "208 labelled frames take part", now),
        last_verdict=PageVerdict(
            7, True, "109 of 111 own test frames right, 107 before", now - timedelta(days=1), "commit"
        ),
        history=(
            ModelChange(7, now - timedelta(days=1, hours=3)),
            ModelChange(6, now - timedelta(days=2, hours=3)),
            ModelChange(5, now - timedelta(days=5, hours=3)),
        ),
        events=(
            bare_head(now - timedelta(minutes=26), lasted_s=12),
            Event("slow", "North gate sends 4.9 pictures a second", now - timedelta(hours=2), now - timedelta(hours=1)),
            bare_head(now - timedelta(days=1, hours=1), lasted_s=95),
        ),
    )


def bare_head(began_utc: datetime, *, lasted_s: float | None = None) -> Event:
    """Somebody without a hardhat; still there where no duration is given."""
    ended = None if lasted_s is None else began_utc + timedelta(seconds=lasted_s)
    return Event("seen", "bare head seen", began_utc, ended, {"decisions": 31.0, "agreed": 29.0, "highest_score": 0.98})


def condition(kind: str, since_utc: datetime) -> PageCondition:
    """Pictures that are worth little, in the camera's own words."""
    return PageCondition(kind, _SENTENCES[kind], since_utc)


_SENTENCES = {
    "dark": "The picture of North gate is black. The lens is covered, or there is no light; nothing can be recognised."
    " Look at the lens, and light the place.",
    "frozen": "The picture of North gate stands still: the camera sends the same one again and again. What is shown"
    " and decided is old. Restart the camera service; if it comes back, check the cable and the power supply.",
    "slow": "North gate sends 4.9 pictures a second instead of 10. Somebody who walks past quickly may be missed."
    " Check the board's temperature and power, and that the sensor can do [camera] rate_fps.",
}


def decision(
    label: str | None = "hardhat",
    confidence: float = 0.97,
    *,
    version: int = 7,
    doubt: Doubt = Doubt.LOW_SCORE,
    familiarity: float | None = 0.91,
) -> Decision:
    """One decision over :data:`LABELS`; the other labels share what is left. ``doubt`` counts where no label is."""
    best = label or "hardhat"
    rest = (1 - confidence) / (len(LABELS) - 1)
    scores = {name: confidence if name == best else rest for name in LABELS}
    why = Doubt.NONE if label else doubt
    return Decision(label, confidence, Prediction(scores, version, 5.2), why, familiarity)


class FakePageSource:
    """Frames at a steady rate, each counted; everything else as a test sets it.

    Attributes:
        page: What ``status`` answers.
        decision: What is made of every frame.
        asked: How often ``newest`` was called.
        flowing: Cleared, no new frame comes.
    """

    def __init__(self, *, rate_fps: float = 50.0, size: tuple[int, int] = (320, 240)) -> None:
        self.page = typical_status()
        self.decision: Decision | None = decision()
        self.asked = 0
        self.flowing = threading.Event()
        self.flowing.set()
        self._interval_s = 1 / rate_fps
        self._scenes = [building_site(size, step) for step in range(6)]
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._frame: Frame | None = None

    def status(self) -> PageStatus:
        return self.page

    def newest(self, after_sequence: int, timeout_s: float) -> tuple[Frame, Decision | None] | None:
        self.asked += 1
        ends = time.monotonic() + timeout_s
        while True:
            frame = self._current()
            if frame is not None and frame.sequence > after_sequence:
                return frame, self.decision
            if time.monotonic() >= ends:
                return None
            time.sleep(self._interval_s / 4)

    def _current(self) -> Frame | None:
        with self._lock:
            sequence = int((time.monotonic() - self._started) / self._interval_s)
            if self.flowing.is_set() and (self._frame is None or self._frame.sequence != sequence):
                scene = self._scenes[sequence % len(self._scenes)]
                self._frame = Frame(scene, datetime.now(UTC), sequence)
            return self._frame


@functools.lru_cache(maxsize=32)
def building_site(size: tuple[int, int] = (1280, 960), step: int = 0) -> Pixels:
    """uint8 [height, width, 3] RGB: a worker with a hardhat before a scaffold, swaying with ``step``."""
    width, height = 1280, 960
    rows = np.linspace(0, 1, height)[:, None, None]
    sky = np.array([150, 178, 205]) * (1 - rows) + np.array([222, 224, 218]) * rows
    image = Image.fromarray(np.broadcast_to(sky, (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    _site(draw)
    image = image.filter(ImageFilter.GaussianBlur(3))
    _worker(ImageDraw.Draw(image), 640 + round(14 * np.sin(step)), 350)
    grain = np.random.default_rng(step).normal(0, 5, (height, width, 1))
    pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _site(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 700, 1280, 960), fill=(146, 132, 112))
    draw.polygon([(0, 760), (1280, 720), (1280, 960), (0, 960)], fill=(128, 115, 97))
    draw.rectangle((60, 120, 560, 720), fill=(176, 168, 158))
    for row in range(3):
        for column in range(3):
            left, top = 110 + 150 * column, 180 + 170 * row
            draw.rectangle((left, top, left + 90, top + 110), fill=(92, 104, 112))
    for x in range(40, 620, 110):
        draw.rectangle((x, 80, x + 9, 730), fill=(190, 150, 60))
    for y in range(150, 730, 150):
        draw.rectangle((20, y, 620, y + 12), fill=(150, 112, 70))
    draw.rectangle((860, 90, 884, 740), fill=(206, 160, 40))
    draw.rectangle((700, 90, 1240, 112), fill=(206, 160, 40))
    draw.line((1160, 112, 1160, 420), fill=(70, 70, 70), width=4)
    draw.rectangle((1110, 420, 1210, 470), fill=(140, 90, 60))


def _worker(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    left_half = [(x - 210, 960), (x - 170, y + 300), (x - 60, y + 245)]
    right_half = [(x + 60, y + 245), (x + 170, y + 300), (x + 210, 960)]
    draw.polygon([*left_half, *right_half], fill=(214, 236, 50))
    for left, right in ((x - 140, x - 100), (x + 100, x + 140)):
        draw.polygon([(left, 960), (left, y + 290), (right, y + 280), (right, 960)], fill=(226, 228, 224))
    draw.rectangle((x - 200, y + 470, x + 200, y + 515), fill=(226, 228, 224))
    draw.rectangle((x - 48, y + 170, x + 48, y + 262), fill=(150, 98, 70))
    draw.ellipse((x - 98, y - 10, x + 98, y + 230), fill=(172, 116, 84))
    for eye in (x - 38, x + 38):
        draw.ellipse((eye - 11, y + 92, eye + 11, y + 110), fill=(44, 30, 24))
    draw.arc((x - 38, y + 130, x + 38, y + 184), 20, 160, fill=(98, 48, 40), width=6)
    draw.pieslice((x - 128, y - 92, x + 128, y + 150), 180, 360, fill=(246, 190, 20))
    draw.rounded_rectangle((x - 150, y + 22, x + 150, y + 48), 12, fill=(232, 172, 10))
    draw.rounded_rectangle((x - 16, y - 98, x + 16, y + 26), 12, fill=(255, 212, 60))
