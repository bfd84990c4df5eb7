"""What server and cameras say to each other at night: the names in Flower's records, and nothing more.

| message      | server to camera                                  | camera to server                                |
|--------------|---------------------------------------------------|-------------------------------------------------|
| query.status |                                                   | name, version, counts, parts, objection, health |
| query.means  | config (version, backbone, labels)                | arrays (sums, counts), metrics (squares)        |
| train        | arrays (head), config (the same, round, recipe)   | arrays (head), metrics (examples, loss)         |
| evaluate     | arrays (head), config (version, backbone, labels) | metrics (examples, loss, correct, ...)          |
| query.deploy | config (manifest, signature), parts by SHA-256    | verdict                                         |
| query.close  |                                                   | (nothing: the night is over)                    |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from appliance.board import Board
from appliance.errors import NightError
from appliance.models.head import Head

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
EXAMPLES = "num-examples"  # Flower's own default for weighting

STATUS, MEANS, DEPLOY, CLOSE = "status", "means", "deploy", "close"


@dataclass(frozen=True)
class CameraStatus:
    """What a camera says of itself when a night begins.

    Attributes:
        name: As its people call it.
        version: The model it runs; 0 for none.
        train_frames: Labelled frames to learn from, per label.
        test_frames: Labelled frames to test with, per label.
        digests: SHA-256 of the parts it holds.
        objection: Why it won't train tonight; empty where it will.
        health: What is wrong with its live loop, in a sentence; empty where nothing is.
        backbone: SHA-256 of the backbone that the running model stands on.
        board: What it is and what the model takes on it; None from cameras that don't tell.
    """

    name: str
    version: int
    train_frames: Mapping[str, int]
    test_frames: Mapping[str, int]
    digests: tuple[str, ...]
    objection: str = ""
    health: str = ""
    backbone: str = ""
    board: Board | None = None

    def to_record(self) -> ConfigRecord:
        """As it travels."""
        return ConfigRecord({"status": json.dumps(asdict(self))})

    @staticmethod
    def from_record(record: Mapping[str, object]) -> CameraStatus:
        """Read what :meth:`to_record` wrote.

        Raises:
            NightError: It isn't a status.
        """
        try:
            body = json.loads(str(record["status"]))
            return CameraStatus(
                name=str(body["name"]),
                version=int(body["version"]),
                train_frames={str(k): int(v) for k, v in body["train_frames"].items()},
                test_frames={str(k): int(v) for k, v in body["test_frames"].items()},
                digests=tuple(map(str, body["digests"])),
                objection=str(body["objection"]),
                health=str(body["health"]),
                backbone=str(body["backbone"]),
                board=None if body.get("board") is None else Board.of(body["board"]),
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise NightError(f"A camera's status can't be read ({error!r})", means="It sits this night out") from error


def head_record(head: Head) -> ArrayRecord:
    """A head as Flower carries it: its arrays in their order."""
    return ArrayRecord(head.arrays)


def head_of(content: RecordDict) -> Head:
    """The head in a message.

    Raises:
        NightError: There is none.
        PartError: Its arrays don't fit together.
    """
    record = content.array_records.get(ARRAYS)
    if record is None:
        raise NightError("A message came without its head", means="It can't be used")
    return Head.from_arrays(record.to_numpy_ndarrays())


def metrics(**values: float) -> MetricRecord:
    """Numbers about a head; ``examples`` becomes Flower's own key."""
    return MetricRecord({EXAMPLES if name == "examples" else name: value for name, value in values.items()})
