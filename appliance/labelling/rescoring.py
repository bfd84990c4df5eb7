"""Asks the running model about stored frames again after a swap, without a backbone: from cached features.

A head on cached features says what the whole model says of the frame, so a new version's opinion of thousands of
frames costs one small matrix product for each hundred. Frames without features keep what was said at their capture.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator

import numpy as np

from appliance.errors import SitecamError
from appliance.labelling.model import ModelView
from appliance.models.head import Head
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore
from appliance.store.recipe import VARIANTS, recipe_name
from appliance.store.records import Said

logger = logging.getLogger(__name__)

_LOOK_S = 2.0
_AGAIN_S = 600.0  # a night, an import or a burst may have brought features for frames that had none
_CHUNK = 100  # frames: 4 MB of eight variants
_REST_S = 0.05  # between two chunks: the live loop, and people, come first


class Rescorer:
    """The thread that does it.

    Args:
        store: The camera's frames.
        model: The running one.
        swapping: Whether a swap is under way: then it waits for the outcome.
        look_s: Between two looks at the running version.
    """

    def __init__(
        self,
        store: FrameStore,
        model: ModelView,
        *,
        swapping: Callable[[], bool] = lambda: False,
        look_s: float = _LOOK_S,
    ) -> None:
        self._store = store
        self._model = model
        self._swapping = swapping
        self._look_s = look_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rescorer", daemon=True)

    def start(self) -> None:
        """Watch for swaps from now on."""
        self._thread.start()

    def stop(self, *, deadline_s: float = 10) -> None:
        """Watch no longer; what is scored so far stays."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def rescore(self, version: int) -> int:
        """Write what a version says of every frame that another one, or none, was asked about last.

        Args:
            version: On the shelf.

        Returns:
            How many frames it was asked about; fewer than there are where this is being stopped.

        Raises:
            SitecamError: Store or version can't be read.
        """
        manifest = self._model.manifest(version)
        if manifest.foreign:
            return 0  # it takes pictures, not features: frames are shown to it as they are seen, and no others
        head = self._model.head(version)
        recipes = (recipe_name(manifest, 1), recipe_name(manifest, VARIANTS))
        scored = 0
        for ids in self._outdated(version):
            said: dict[str, Said] = {}
            for recipe in recipes:
                missing = [frame_id for frame_id in ids if frame_id not in said]
                said |= _say(self._store.features, missing, recipe, head, version, manifest.labels)
            if said:
                self._store.rescore(said)
                scored += len(said)
            if self._stopping.wait(_REST_S):
                break
        return scored

    def _outdated(self, version: int) -> Iterator[list[str]]:
        """Ids of frames, a chunk at a time, that this version wasn't asked about."""
        after = 0
        while True:
            rows = self._store.rows(
                "SELECT rowid, id FROM frames WHERE rowid > ? AND version IS NOT ? ORDER BY rowid LIMIT ?",
                (after, version, _CHUNK),
            )
            if not rows:
                return
            after = rows[-1][0]
            yield [frame_id for _, frame_id in rows]

    def _watch(self) -> None:
        done: int | None = None
        since_s = 0.0
        while not self._stopping.wait(self._look_s):
            since_s += self._look_s
            version = self._model.version
            if version is None or self._swapping() or (version == done and since_s < _AGAIN_S):
                continue
            try:
                scored = self.rescore(version)
            except (SitecamError, OSError, sqlite3.Error) as error:
                logger.error("Stored frames could not be shown to version %d again: %s", version, error)
            else:
                if scored:
                    logger.info("Version %d was asked about %d stored frames", version, scored)
            done, since_s = version, 0.0


def _say(
    cache: FeatureCache, ids: list[str], recipe: str, head: Head, version: int, labels: tuple[str, ...]
) -> dict[str, Said]:
    """What a head says of those of the frames whose features are cached; the first variant is the frame as it is."""
    found = [
        (frame_id, vectors[0])
        for frame_id, vectors in cache.each(ids, recipe, most=1)
        if vectors.shape[1] == head.feature_count and np.isfinite(vectors[0]).all()
    ]
    if not found:
        return {}
    scores = head.scores(np.stack([row for _, row in found]))
    best = scores.argmax(axis=1)
    return {
        frame_id: Said(version, labels[int(which)], float(score[which]))
        for (frame_id, _), which, score in zip(found, best, scores, strict=True)
    }
