"""The ledger as two processes write it."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from appliance import ledger


def write_many(path: Path, who: str) -> None:
    for number in range(200):
        ledger.append(path, {"who": who, "number": number, "padding": "x" * 9000})


def test_two_processes_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(write_many, [path] * 2, ["camera", "night"]))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for who in ("camera", "night"):
        assert [line["number"] for line in lines if line["who"] == who] == list(range(200))


def test_a_line_that_was_cut_short_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"at_utc": "2026-')
    ledger.append(path, {"kind": "one"})
    ledger.append(path, {"kind": "two"})
    cut, *whole = path.read_text().splitlines()
    assert cut == '{"at_utc": "2026-'
    assert [json.loads(line)["kind"] for line in whole] == ["one", "two"]


def test_a_request_for_a_certificate_says_what_it_told_whom(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger.note_page_request(path, to="site-server:9444", size_bytes=1234, names=("gate-1.local", "10.0.0.7"))
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line.pop("at_utc").endswith("+00:00")
    assert line == {
        "kind": "page certificate",
        "to": "site-server:9444",
        "up_bytes": 1234,
        "names": ["gate-1.local", "10.0.0.7"],
    }


def test_a_disk_that_refuses_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ledger.append(tmp_path / "nowhere" / "ledger.jsonl", {"kind": "one"})
