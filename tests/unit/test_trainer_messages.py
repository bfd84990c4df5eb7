"""What server and cameras say to each other."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from appliance.errors import NightError, PartError
from tests.fakes.parts import tiny_head
from trainer import messages
from trainer.messages import CameraStatus

STATUS = CameraStatus("gate", 3, {"head": 4, "hardhat": 9}, {"head": 1}, ("ab" * 32, "cd" * 32), "too warm")


def test_a_status_arrives_as_it_was_sent() -> None:
    assert CameraStatus.from_record(STATUS.to_record()) == STATUS


@pytest.mark.parametrize(
    "body",
    [
        "",
        "nothing",
        "[]",
        "null",
        json.dumps({"name": "gate"}),
        json.dumps({**json.loads(str(STATUS.to_record()["status"])), "train_frames": 5}),
        json.dumps({**json.loads(str(STATUS.to_record()["status"])), "version": "newest"}),
        json.dumps({**json.loads(str(STATUS.to_record()["status"])), "digests": None}),
    ],
)
def test_a_status_that_is_none_is_refused(body: str) -> None:
    with pytest.raises(NightError, match="status can't be read"):
        CameraStatus.from_record(ConfigRecord({"status": body}))
    with pytest.raises(NightError, match="status can't be read"):
        CameraStatus.from_record(ConfigRecord({}))


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_head_arrives_bit_for_bit(hidden: int) -> None:
    head = tiny_head(hidden_units=hidden)
    content = RecordDict({messages.ARRAYS: messages.head_record(head)})
    assert messages.head_of(content).to_bytes() == head.to_bytes()


def test_a_message_without_a_head_is_refused() -> None:
    with pytest.raises(NightError, match="without its head"):
        messages.head_of(RecordDict({messages.CONFIG: ConfigRecord({})}))


def test_arrays_that_make_no_head_are_refused() -> None:
    with pytest.raises(PartError, match="don't fit together"):
        messages.head_of(RecordDict({messages.ARRAYS: ArrayRecord([np.zeros((8, 3), np.float32), np.zeros(4)])}))


def test_the_number_of_examples_goes_under_flowers_own_name() -> None:
    assert dict(messages.metrics(examples=7, loss=0.25)) == {"num-examples": 7, "loss": 0.25}
