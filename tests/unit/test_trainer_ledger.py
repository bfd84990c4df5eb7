"""The camera's own account of what left it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from appliance.ledger_reader import last_traffic
from tests.fakes.parts import tiny_head
from trainer import messages
from trainer.ledger import note_reply, note_traffic


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_arrays_are_listed_by_name_shape_bytes_and_hash(tmp_path: Path) -> None:
    record = messages.head_record(tiny_head(hidden_units=8))
    content = RecordDict({messages.ARRAYS: record, messages.METRICS: messages.metrics(examples=12, loss=0.5)})
    note_reply(tmp_path / "ledger.jsonl", "tonight", "train", content)
    (line,) = lines(tmp_path / "ledger.jsonl")
    assert (line["night"], line["kind"]) == ("tonight", "train")
    assert [entry["name"] for entry in line["arrays"]] == [f"arrays/{index}" for index in range(4)]
    assert [entry["shape"] for entry in line["arrays"]] == [[8, 8], [8], [8, 3], [3]]
    for entry, array in zip(line["arrays"], record.values(), strict=True):
        assert entry["size_bytes"] == len(array.data)
        assert entry["sha256"] == hashlib.sha256(array.data).hexdigest()
    assert line["values"] == {"metrics/num-examples": 12, "metrics/loss": 0.5}


def test_texts_are_listed_as_they_are(tmp_path: Path) -> None:
    note_reply(
        tmp_path / "l", "tonight", "query.deploy", RecordDict({"config": ConfigRecord({"verdict": "Grüße, it runs"})})
    )
    assert lines(tmp_path / "l")[0]["values"] == {"config/verdict": "Grüße, it runs"}


def test_an_empty_reply_is_a_line_too(tmp_path: Path) -> None:
    note_reply(tmp_path / "l", "tonight", "query.close", RecordDict())
    note_reply(tmp_path / "l", "tonight", "train", RecordDict({"arrays": ArrayRecord([np.zeros(0, np.float32)])}))
    first, second = lines(tmp_path / "l")
    assert (first["arrays"], first["values"]) == ([], {})
    assert second["arrays"][0]["shape"] == [0]


def test_the_last_total_counts(tmp_path: Path) -> None:
    path = tmp_path / "l"
    assert last_traffic(path) == (0, 0)
    note_reply(path, "one", "query.close", RecordDict())
    assert last_traffic(path) == (0, 0)
    note_traffic(path, "one", 10, 20)
    note_traffic(path, "two", 30, 40)
    note_reply(path, "three", "query.close", RecordDict())
    assert last_traffic(path) == (30, 40)


def test_a_line_cut_short_by_a_power_cut_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "l"
    note_traffic(path, "one", 10, 20)
    with path.open("a") as file:
        file.write('{"arrays": [], "at_utc": "2026-')
    assert last_traffic(path) == (10, 20)
    note_traffic(path, "two", 30, 40)
    assert last_traffic(path) == (30, 40)
