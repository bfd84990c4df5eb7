"""Lets an .eim from elsewhere answer in our labels: the map beside its file, and what it makes of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from appliance.eim.replies import ImpulseInfo, garbled
from appliance.errors import NotAnImpulseError


@dataclass(frozen=True)
class LabelMap:
    """What stands for what.

    Attributes:
        name: What people call the model.
        version: Ours for it; its own deploy version says nothing on our shelf.
        labels: Ours, in our order.
        theirs: Every label of the ``.eim``: ours that it counts for, or empty for none.
    """

    name: str
    version: int
    labels: tuple[str, ...]
    theirs: Mapping[str, str]

    def info(self, told: ImpulseInfo, file_name: str) -> ImpulseInfo:
        """What the ``.eim`` says of itself, in our words.

        Raises:
            ImpulseGarbledError: It has other labels than those that were mapped.
        """
        if set(told.labels) != set(self.theirs):
            raise garbled(f"{file_name} has the labels {', '.join(told.labels)}, not {', '.join(self.theirs)}")
        return replace(told, name=self.name, version=self.version, labels=self.labels)

    def scores(self, theirs: Mapping[str, float]) -> dict[str, float]:
        """Scores of our labels: the sum of what counts for each; 0 where nothing does.

        They add up to less than 1 where a label of theirs counts for none of ours.
        """
        sums = dict.fromkeys(self.labels, 0.0)
        for label, score in theirs.items():
            if self.theirs[label]:
                sums[self.theirs[label]] += score
        return {label: min(score, 1.0) for label, score in sums.items()}

    def to_bytes(self) -> bytes:
        """As it lies beside the ``.eim``."""
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode() + b"\n"


def map_path(eim: Path) -> Path:
    """Where the map of an ``.eim`` lies, if it has one."""
    return eim.with_suffix(".sitecam-labels.json")


def read_label_map(eim: Path) -> LabelMap | None:
    """The map of an ``.eim``; None for one that speaks for itself.

    Raises:
        NotAnImpulseError: The map can't be read, so nobody knows what the answers would mean.
    """
    path = map_path(eim)
    try:
        body = json.loads(path.read_bytes())
        theirs = {str(label): str(ours) for label, ours in body["theirs"].items()}
        return LabelMap(str(body["name"]), int(body["version"]), tuple(map(str, body["labels"])), theirs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAnImpulseError(
            f"{path} can't be read ({error!r})",
            means="Nobody knows what the answers would mean, so nothing is classified by it",
            do="Start the camera again: it assembles the version afresh",
        ) from error
