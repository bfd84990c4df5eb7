"""The running model as labelling sees it: its labels, its version, its head."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import ConfigError, ModelError
from appliance.models.head import Head
from appliance.models.manifest import DEFAULT_LABELS, Manifest
from appliance.models.shelf import Shelf
from appliance.store.recipe import recipe_name

logger = logging.getLogger(__name__)

CANT_TELL = "can't tell"
_WORDS = {"head": "bare head", "hardhat": "hardhat", "nobody": "nobody here"}


@dataclass(frozen=True)
class LabelChoice:
    """A label as a person picks it.

    Attributes:
        name: The model's.
        words: For people.
        key: On the keyboard.
    """

    name: str
    words: str
    key: str


class ModelView:
    """Reads the running version's manifest and head off the shelf.

    Args:
        shelf: The camera's models.
        running: The version that answers; None while none does: then the one that should run counts.
    """

    def __init__(self, shelf: Shelf, running: Callable[[], int | None]) -> None:
        self._shelf = shelf
        self._running = running
        self._manifests: dict[int, Manifest] = {}

    @property
    def version(self) -> int | None:
        """Which version runs; None on a camera without a model."""
        return self._running() or self._shelf.current

    @property
    def labels(self) -> tuple[str, ...]:
        """What it tells apart, in its order; on a camera without a model what a fleet's would."""
        version = self.version
        try:
            return self._manifest(version).labels if version else DEFAULT_LABELS
        except ModelError as error:
            logger.error("The labels of version %s can't be read: %s", version, error)
            return ()

    @property
    def choices(self) -> tuple[LabelChoice, ...]:
        """Its labels as a person picks them."""
        return tuple(
            LabelChoice(label, _WORDS.get(label, label), str(key)) for key, label in enumerate(self.labels, start=1)
        )

    def checked(self, label: str) -> str:
        """The label, if the model has it.

        Raises:
            ConfigError: It has not; says which one is nearest.
        """
        labels = self.labels
        if label in labels:
            return label
        near = difflib.get_close_matches(label, labels, 1, cutoff=0.3)
        raise ConfigError(
            f"There is no label {label[:60]!r}",
            means="Nothing was changed",
            do=f"Did you mean {near[0]}?"
            if near
            else f"Labels: {', '.join(labels) or 'none, because no model is here'}",
        )

    def manifest(self, version: int) -> Manifest:
        """A version's manifest.

        Raises:
            ModelError: It isn't on the shelf, or is damaged.
        """
        return self._manifest(version)

    def head(self, version: int) -> Head:
        """A version's head.

        Raises:
            ModelError: It isn't on the shelf, or is damaged.
        """
        return Head.from_bytes(self._shelf.part(self._manifest(version).parts["head"]))

    def recipe(self, version: int) -> str:
        """How the features that this version gives with its answers were computed; empty where that isn't known."""
        try:
            manifest = self._manifest(version)
            return "" if manifest.foreign else recipe_name(manifest, 1)
        except ModelError as error:
            logger.error("What version %d was made of can't be read: %s", version, error)
            return ""

    def _manifest(self, version: int) -> Manifest:
        """Read once: a version never changes. Its signature is checked as it is read."""
        known = self._manifests.get(version)
        if known is None:
            known = self._shelf.manifest(version)
            self._manifests = {**dict(list(self._manifests.items())[-3:]), version: known}
        return known
