"""Everything that cameras send in a night, decrypted at a proxy: no picture, no features, all of it accounted for."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore
from appliance.vision import decode, prepare
from tests.night.conftest import FEW, RecordedNight, Sent
from tests.night.recording import arrays_of, check_no_features, check_no_picture, requests, sent_messages, unpacked
from trainer.means import MIN_FRAMES

pytestmark = pytest.mark.night

CAMERAS = ("gate-1", "gate-2")
EVERY_KIND = [*("query.status", "query.means", "train", "train", "evaluate", "query.deploy", "query.close")]
NOT_MESSAGES = {  # what else a SuperNode says: who it is, and what it wants
    *("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "pull-object"),
    *("get-run", "get-fab", "confirm-message-received"),
}


@pytest.fixture(params=CAMERAS)
def sent(recorded_night: RecordedNight, request: pytest.FixtureRequest) -> Sent:
    return recorded_night.sent[request.param]


def everything(sent: Sent) -> bytes:
    return unpacked(b"\0".join(sent.streams))


def pictures(paths: CameraPaths) -> list[npt.NDArray[np.uint8]]:
    """Every picture of a store, as it was taken and as the model sees it."""
    spec = shelf(paths).manifest(1).input
    with FrameStore(paths.store) as store:
        whole = [decode(store.jpeg(frame.id)) for frame in store.frames(labelled_only=False)]
    return [*whole, *(prepare(pixels, spec) for pixels in whole)]


def shelf(paths: CameraPaths) -> Shelf:
    return Shelf(paths.models, load_public_key((paths.fleet / "signing.pem").read_bytes()))


def vectors(paths: CameraPaths) -> dict[str, npt.NDArray[np.float32]]:
    """Cached features, float32 [variants, features], by frame; training frames have all their variants."""
    with contextlib.closing(sqlite3.connect(paths.store / "features.sqlite")) as database:
        rows = database.execute("SELECT frame, variants, vectors FROM features ORDER BY variants").fetchall()
    return {frame: np.frombuffer(data, np.float32).reshape(variants, -1) for frame, variants, data in rows}


def few_frames(paths: CameraPaths) -> npt.NDArray[np.float32]:
    """Sums and means of the features of every label that has too few frames to tell, float32 [n, features]."""
    known = vectors(paths)
    with FrameStore(paths.store) as store:
        frames = store.frames(split="train")
    found = []
    for label in {frame.label for frame in frames if frame.label}:
        own = [known[frame.id][0].astype(np.float64) for frame in frames if frame.label == label]
        if len(own) < MIN_FRAMES:
            found += [np.sum(own, axis=0).astype(np.float32), np.mean(own, axis=0).astype(np.float32)]
    return np.array(found, np.float32)


def check_every_array_is_listed(sent: Sent) -> None:
    """The ledger's entries are the messages that left, array by array and value by value, in their order."""
    messages = sent_messages(sent.streams, sent.others)
    listed = [line for line in sent.ledger if line["kind"] != "total"]
    assert [kind for kind, _ in messages] == [line["kind"] for line in listed]
    for (kind, content), line in zip(messages, listed, strict=True):
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in arrays_of(content).items()}
        assert digests == {array["name"]: array["sha256"] for array in line["arrays"]}, kind
        values = {
            f"{record}/{name}": value
            for records in (content.metric_records, content.config_records)
            for record, entries in records.items()
            for name, value in entries.items()
        }
        assert json.loads(json.dumps(values)) == line["values"], kind


def test_the_night_was_a_whole_one(recorded_night: RecordedNight, sent: Sent) -> None:
    assert recorded_night.held.outcome == "published", recorded_night.held.events
    assert [kind for kind, _ in sent_messages(sent.streams, sent.others)] == EVERY_KIND
    assert any("Exact start from 2 cameras" in text for text in recorded_night.held.events)


def test_no_picture_and_no_row_of_one_left(sent: Sent) -> None:
    taken = pictures(sent.paths)
    assert len(taken) >= 2 * 39  # and what the live loop kept meanwhile
    check_no_picture(everything(sent), taken)


def test_no_features_left(sent: Sent) -> None:
    known = vectors(sent.paths)
    assert len(known) >= 34
    check_no_features(everything(sent), np.concatenate(list(known.values())))


def test_no_mean_of_few_frames_left(recorded_night: RecordedNight) -> None:
    sent = recorded_night.sent["gate-1"]
    few = few_frames(sent.paths)
    assert len(few) == 2  # of "nobody": its sum and its mean
    check_no_features(everything(sent), few)
    (means,) = (content for kind, content in sent_messages(sent.streams, sent.others) if kind == "query.means")
    counts = means.array_records["arrays"]["counts"].numpy()
    assert counts.tolist() == [8, 8, 0]
    assert FEW < MIN_FRAMES


def test_every_array_that_left_is_in_the_ledger_with_its_hash(sent: Sent) -> None:
    check_every_array_is_listed(sent)


def test_nothing_else_left_but_questions(sent: Sent) -> None:
    others = [
        request
        for stream in sent.streams
        for request in requests(stream)
        if not request.path.endswith(("/push-messages", "/push-object"))
    ]
    assert {request.path.removeprefix("/v1/fleet/") for request in others} - {""} <= NOT_MESSAGES
    assert max(len(request.body) for request in others) < 300


def test_the_ledgers_total_is_what_the_network_carried(sent: Sent) -> None:
    (total,) = (line for line in sent.ledger if line["kind"] == "total")
    assert (total["up_bytes"], total["down_bytes"]) == (sent.up_bytes, sent.down_bytes)


# The same tests on recordings in which something was planted: they can fail.


def planted_jpeg(sent: Sent) -> bytes:
    with FrameStore(sent.paths.store) as store:
        return store.jpeg(store.frames()[5].id)


def planted_row(sent: Sent) -> bytes:
    return bytes(pictures(sent.paths)[7][20].tobytes())


def planted_prepared_row(sent: Sent) -> bytes:
    return bytes((pictures(sent.paths)[-1][3].astype(np.float32) / np.float32(255)).tobytes())


@pytest.mark.parametrize("plant", [planted_jpeg, planted_row, planted_prepared_row])
@pytest.mark.parametrize("packed", [bytes, zlib.compress, gzip.compress])
def test_a_planted_picture_is_found(
    recorded_night: RecordedNight, plant: Callable[[Sent], bytes], packed: Callable[[bytes], bytes]
) -> None:
    sent = recorded_night.sent["gate-2"]
    stream = b"\0".join(sent.streams)
    middle = len(stream) // 2
    data = unpacked(stream[:middle] + packed(plant(sent)) + stream[middle:])
    with pytest.raises(AssertionError, match=r"JPEG|JFIF|a row of picture"):
        check_no_picture(data, pictures(sent.paths))


@pytest.mark.parametrize("packed", [bytes, zlib.compress])
def test_planted_features_are_found(recorded_night: RecordedNight, packed: Callable[[bytes], bytes]) -> None:
    sent = recorded_night.sent["gate-1"]
    known = np.concatenate(list(vectors(sent.paths).values()))
    stream = b"\0".join(sent.streams)
    for planted, looked_for in ((known[3], known), (few_frames(sent.paths)[1], few_frames(sent.paths))):
        with pytest.raises(AssertionError, match="features of vector"):
            check_no_features(unpacked(stream + packed(planted.tobytes())), looked_for)


def test_an_array_that_the_ledger_does_not_list_is_found(recorded_night: RecordedNight) -> None:
    sent = recorded_night.sent["gate-1"]
    trained = next(line for line in sent.ledger if line["kind"] == "train")
    trained["arrays"].append(taken := trained["arrays"].pop(0))
    check_every_array_is_listed(sent)
    trained["arrays"].remove(taken)
    try:
        with pytest.raises(AssertionError, match="train"):
            check_every_array_is_listed(sent)
    finally:
        trained["arrays"].append(taken)
