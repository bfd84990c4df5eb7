"""What a camera keeps of what it sees, and what people say of it: store, recorder, queue, deletion, put together."""

from __future__ import annotations

import logging
import threading
import zoneinfo
from collections.abc import Callable

from appliance.burst import Burst
from appliance.config import Settings
from appliance.errors import SitecamError, StoreError
from appliance.events import EventLog
from appliance.events_record import Event
from appliance.labelling.answers import Answers
from appliance.labelling.model import ModelView
from appliance.labelling.queue import DayQueue
from appliance.labelling.rescoring import Rescorer
from appliance.learn_empty import read_request
from appliance.models.shelf import Shelf
from appliance.night_plan import tonight
from appliance.paths import CameraPaths
from appliance.recorder import Recorder
from appliance.status import QueueState, StoreState
from appliance.store import queue
from appliance.store.deletion import Deleter
from appliance.store.frames import FrameStore
from appliance.store.records import NewFrame
from appliance.store.room import Limits

logger = logging.getLogger(__name__)

_TIDY_S = 3600.0


class Keeping:
    """A camera's store and everything that fills, asks and empties it.

    Args:
        settings: The camera's.
        paths: Its state folder.
        shelf: Its models.
        running: The version that answers; None while none does.
        in_alarm: Whether an alarm lasts right now.
        swapping: Whether a swap is under way.

    Raises:
        StoreError: The store can't be used.
    """

    def __init__(
        self,
        settings: Settings,
        paths: CameraPaths,
        shelf: Shelf,
        *,
        running: Callable[[], int | None],
        in_alarm: Callable[[], bool],
        swapping: Callable[[], bool],
    ) -> None:
        self._settings, self._paths = settings, paths
        zone = zoneinfo.ZoneInfo(settings.page.time_zone)
        self.events = EventLog(paths.events, settings.events, on_false=self._false_alarm)
        self.store = FrameStore(paths.store, Limits.of(settings.store, others=self.events.size_bytes))
        self.deleter = Deleter(self.store, shelf, self.events.delete, self.events.count_between, settle=self._settle)
        self.model = ModelView(shelf, running)
        self.recorder = Recorder(self.store, settings.store, in_alarm=in_alarm, recipe=self.model.recipe)
        self.burst = Burst(self.store, self.model.recipe)
        self.queue = DayQueue(self.store, settings.labelling, zone)
        self.answers = Answers(self.store, self.model)
        self._rescorer = Rescorer(self.store, self.model, swapping=swapping)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tidy, name="tidy", daemon=True)

    def start(self) -> None:
        """Finish deletions that were cut off; then keep, tidy and ask the model again."""
        self.deleter.finish()
        self.events.start()
        if self._settings.store.record:
            self.recorder.start()
        self._rescorer.start()
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and let go of the files."""
        self._stopping.set()
        self.burst.stop()
        self._rescorer.stop()
        if self._settings.store.record:
            self.recorder.stop()
        if self._thread.is_alive():
            self._thread.join(10)
        self.events.stop()
        self.store.close()

    # For status and metrics

    def store_state(self) -> StoreState:
        """How full the store is."""
        room = self.store.room()
        return StoreState(
            size_bytes=room.size_bytes,
            budget_bytes=room.budget_bytes,
            free_bytes=room.free_bytes,
            floor_bytes=room.floor_bytes,
            state=room.state,
            sentence=room.sentence,
            written_bytes=self.store.written.bytes,
        )

    def queue_state(self) -> QueueState:
        """What waits for a person."""
        return QueueState(
            waiting=queue.waiting(self.store),
            asked=self._settings.labelling.per_day,
            done_today=self.queue.done_today(),
        )

    def tonight(self) -> str:
        """Tonight's plan, as far as the camera knows."""
        if self.model.version is None:
            return "It has no nights: it belongs to no fleet."
        return tonight(self.store.counts(), self.model.labels, self._settings.night.min_frames)

    def recording(self) -> tuple[str, str]:
        """Whether live frames are kept: a state and a sentence."""
        if not self._settings.store.record:
            return "off", "Live frames are not kept: store.record is false."
        return self.recorder.state, self.recorder.sentence

    def _false_alarm(self, event: Event, jpeg: bytes) -> None:
        """A picture that the model was wrong about is worth a person's label."""
        self.store.add_all([NewFrame(jpeg, event.began_utc, "live", reason=queue.FALSE_ALARM)])

    def _tidy(self) -> None:
        while True:
            try:
                self.store.tidy()
            except (SitecamError, OSError) as error:
                logger.error("The store could not be tidied: %s", error)
            if self._stopping.wait(_TIDY_S):
                return

    def _settle(self) -> None:
        """Frames on their way into the store must not come in after a deletion that they belong to.

        Raises:
            StoreError: Some can't be waited for.
        """
        if self.burst.state.busy or read_request(self._paths) is not None:
            raise StoreError(
                "Frames are being taken right now", means="Nothing was deleted", do="Wait until that is done"
            )
        self.recorder.flush()
