"""A camera with frames to label: real store, queue, deletion, accounts and routes; only the live loop is a stand-in."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from appliance.burst import Burst
from appliance.config import LabellingSettings
from appliance.frame import Decision, Frame
from appliance.labelling.answers import Answers
from appliance.labelling.queue import DayQueue
from appliance.paths import CameraPaths
from appliance.store.deletion import Deleter
from appliance.store.frames import FrameStore, NewFrame, Said
from appliance.store.records import FrameRecord
from appliance.web.api import capture, data, frames
from appliance.web.app import create_app
from appliance.web.roles import Role
from appliance.web.server import PageServer
from tests.fakes.camera_page import PASSWORD, accounts_in, add
from tests.fakes.labelling import model_view, shelf_in
from tests.fakes.page_source import LABELS, FakePageSource
from tests.fakes.pictures import encoded, scene

ZONE = ZoneInfo("Europe/Berlin")
CAMERA = "North gate"
PEOPLE: dict[str, Role] = {"Ada": "admin", "Lin": "labeller", "Vic": "viewer"}


class LabelSite:
    """The page of a camera, in a folder, with people who may log in with ``PASSWORD``.

    Args:
        root: An empty folder.
        waiting: So many frames of different scenes wait for a label.
        people: Whether there are accounts yet.
    """

    def __init__(self, root: Path, *, waiting: int = 12, people: bool = True) -> None:
        self.paths = CameraPaths(root / "camera")
        self.paths.root.mkdir(parents=True)
        self.source = FakePageSource(rate_fps=10, size=(320, 240))
        self.accounts = accounts_in(self.paths.root)
        if people:
            for name, role in PEOPLE.items():
                add(self.accounts, name, role)
        self.store = FrameStore(self.paths.root / "store")
        shelf = shelf_in(self.paths.root / "fleet", 1)
        model = model_view(self.paths.root / "view", 1)
        self.burst = Burst(self.store, str)
        labelling = frames.Labelling(
            self.store,
            DayQueue(self.store, LabellingSettings(), ZONE),
            Answers(self.store, model),
            model,
            ZONE,
            margin=0.05,
            recording=lambda: ("ok", "Frames are being kept."),
        )
        deleter = Deleter(self.store, shelf)
        self.app = create_app(
            self.source,
            time_zone="Europe/Berlin",
            accounts=self.accounts,
            https=False,
            routers=[
                frames.router(labelling),
                capture.router(self.store, self.burst, self.paths),
                data.router(self.store, deleter, ZONE, camera=CAMERA, labels=lambda: LABELS),
            ],
        )
        self.server = PageServer(self.app, "127.0.0.1", 0)
        self._stopping = threading.Event()
        self._eyes = threading.Thread(target=self._watch, name="watching")
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.ids = [self.keep(seed) for seed in range(waiting)]

    def start(self) -> None:
        """Serve, and let the live loop's frames come to whoever listens."""
        self.server.start()
        self._eyes.start()

    def stop(self) -> None:
        """End everything."""
        self._stopping.set()
        self._eyes.join()
        self.burst.stop()
        self.server.stop()
        self.store.close()

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self.server.url.rstrip("/")

    def keep(self, seed: int, *, guess: str = "head", score: float = 0.5, label: str | None = None) -> str:
        """Store a frame of another scene for each seed, an hour before the last one; its id."""
        said = Said(1, guess, score)
        new = NewFrame(
            encoded(scene(seed, width=640, height=480)),
            self.now - timedelta(hours=1 + seed),
            "live",
            label=label,
            by="Bo" if label else None,
            reason="uncertain",
            said=said,
        )
        return self.store.add_all([new])[0].frame.id

    def cookie(self, name: str) -> dict[str, str]:
        """The session of somebody who logs in now, for a browser."""
        token = self.accounts.log_in(name, PASSWORD)
        return {"name": self.app.state.door.cookie, "value": token, "url": self.url}

    def said(self) -> list[FrameRecord]:
        """Frames that somebody answered, in the order of the answers."""
        answered = [
            frame
            for frame in self.store.frames(labelled_only=False)
            if frame.labelled_utc and frame.labelled_by != "Bo"
        ]
        return sorted(answered, key=lambda frame: str(frame.labelled_utc))

    def _watch(self) -> None:
        sequence = -1
        while not self._stopping.is_set():
            seen: tuple[Frame, Decision | None] | None = self.source.newest(sequence, 0.2)
            if seen is not None:
                sequence = seen[0].sequence
                self.burst(*seen)
