from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from appliance import ledger_reader, privacy
from appliance.forget_asking import Forgetter
from appliance.ledger import append, note_page_request
from appliance.ledger_reader import last_traffic, lines_backwards
from appliance.models.verdict import Verdict
from appliance.paths import CameraPaths
from appliance.privacy import REVEALS, OtherWay, read_ledger
from appliance.web.api.privacy import router
from tests.fakes.page_app import OneRouterPage
from trainer import messages
from trainer.ledger import note_reply, note_traffic

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
AT = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)


def message(kind: str, night: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"at_utc": AT.isoformat(), "night": night, "kind": kind, "arrays": [], "values": dict(values or {})}


def hold(ledger: Path, night: str, *, version: int = 8, rounds: int = 3, taken: bool = True) -> None:
    """A whole night, written by what writes real ones."""
    head = np.arange(12, dtype=np.float32).reshape(3, 4)
    note_reply(
        ledger, night, "query.status", RecordDict({messages.CONFIG: ConfigRecord({"status": '{"name": "gate"}'})})
    )
    for number in range(rounds):
        arrays = ArrayRecord({"0": Array(head + number)})
        values = messages.metrics(examples=208, loss=0.1)
        note_reply(ledger, night, "train", RecordDict({messages.ARRAYS: arrays, messages.METRICS: values}))
    verdict = Verdict(version, taken, "Fine", AT).to_json()
    note_reply(ledger, night, "query.deploy", RecordDict({messages.CONFIG: ConfigRecord({"verdict": verdict})}))
    note_reply(ledger, night, "query.close", RecordDict({messages.CONFIG: ConfigRecord({})}))
    note_traffic(ledger, night, 202_000, 90_000)


# The sentence


def test_the_sentence_about_what_numbers_reveal_stands_in_security_md_word_for_word() -> None:
    assert REVEALS in " ".join(SECURITY.read_text().split())


# A night


def test_a_night_says_what_left_how_many_frames_it_learned_from_and_what_came_of_it(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    hold(ledger, "2026-11-22")
    (night,) = read_ledger(ledger).nights
    assert (night.night, night.learned_frames, night.version, night.taken) == ("2026-11-22", 208, 8, True)
    assert (night.up_bytes, night.down_bytes) == (202_000, 90_000)
    kinds = [each.kind for each in night.messages]
    assert kinds == ["query.status", "train", "train", "train", "query.deploy", "query.close"]
    (array,) = night.messages[1].arrays
    first = np.arange(12, dtype=np.float32).reshape(3, 4)
    sent = Array(first)
    assert (array.name, array.shape, array.dtype) == ("arrays/0", (3, 4), "float32")
    assert (array.size_bytes, array.sha256) == (len(sent.data), hashlib.sha256(sent.data).hexdigest())
    assert night.messages[1].values["metrics/num-examples"] == 208
    assert night.messages[1].words == "the head's trained numbers"


def test_every_kind_of_message_that_a_camera_sends_has_words() -> None:
    sent = {f"query.{name}" for name in (messages.STATUS, messages.MEANS, messages.DEPLOY, messages.CLOSE)}
    assert set(privacy._WORDS) == sent | {"train", "evaluate"}


def test_a_night_in_which_it_did_not_train_learned_from_nothing(tmp_path: Path) -> None:
    hold(tmp_path / "ledger", "n", rounds=0)
    assert read_ledger(tmp_path / "ledger").nights[0].learned_frames == 0


def test_a_version_that_was_not_taken_is_told_as_that(tmp_path: Path) -> None:
    hold(tmp_path / "ledger", "n", version=9, taken=False)
    (night,) = read_ledger(tmp_path / "ledger").nights
    assert (night.version, night.taken) == (9, False)


def test_a_night_that_went_on_after_a_restart_is_one_night_with_both_totals(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    append(ledger, message("train", "n", {"metrics/num-examples": 20}))
    note_traffic(ledger, "n", 100, 10)
    append(ledger, message("train", "n", {"metrics/num-examples": 22}))
    note_traffic(ledger, "n", 30, 3)
    (night,) = read_ledger(ledger).nights
    assert (night.up_bytes, night.down_bytes, night.learned_frames, len(night.messages)) == (130, 13, 22, 2)


def test_a_night_that_was_cut_off_has_no_total(tmp_path: Path) -> None:
    append(tmp_path / "ledger", message("train", "n"))
    assert read_ledger(tmp_path / "ledger").nights[0].up_bytes is None


def test_a_camera_that_never_had_a_night_has_none(tmp_path: Path) -> None:
    page = read_ledger(tmp_path / "ledger")
    assert (page.nights, page.other, page.broken, page.before) == ((), (), (), None)


# Damage


@pytest.mark.parametrize(
    "damage",
    [
        '{"at_utc": "2026-11-2',
        "rubbish",
        "[1, 2]",
        '{"night": "n"}',
        '{"night": "n", "kind": "train", "arrays": 5}',
        '{"kind": "x"}',
    ],
)
def test_a_broken_line_is_said_and_costs_only_itself(tmp_path: Path, damage: str) -> None:
    ledger = tmp_path / "ledger"
    hold(ledger, "before")
    with ledger.open("a") as file:
        file.write(damage + "\n")
    hold(ledger, "after")
    page = read_ledger(ledger)
    assert [(night.night, len(night.messages)) for night in page.nights if night.messages] == [
        ("after", 6),
        ("before", 6),
    ]
    (problem,) = page.broken
    assert "line at byte" in problem


def test_a_line_that_is_no_text_is_said_too(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_bytes(b"\x00\xff\xfe\n" + json.dumps(message("train", "n")).encode() + b"\n")
    page = read_ledger(tmp_path / "ledger")
    assert len(page.nights) == 1
    assert len(page.broken) == 1


def test_much_damage_is_counted_instead_of_listed(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("rubbish\n" * 500)
    broken = read_ledger(tmp_path / "ledger").broken
    assert len(broken) == 21
    assert broken[-1] == "and 480 more lines can't be read"


def test_a_file_without_any_end_of_line_is_given_up_instead_of_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_reader, "_LONGEST_LINE_BYTES", 200_000)
    (tmp_path / "ledger").write_bytes(b"x" * 1_000_000)
    (problem,) = read_ledger(tmp_path / "ledger").broken
    assert "no end of line" in problem


# Years


def years(path: Path, nights: int) -> list[str]:
    names = [(date(2023, 1, 1) + timedelta(days=each)).isoformat() for each in range(nights)]
    with path.open("w") as file:
        for name in names:
            for number in range(3):
                file.write(json.dumps(message("train", name, {"metrics/num-examples": 10 + number})) + "\n")
            file.write(
                json.dumps({"at_utc": AT.isoformat(), "night": name, "kind": "total", "up_bytes": 1, "down_bytes": 2})
                + "\n"
            )
    return names


def test_pages_of_years_hold_every_night_once_in_order(tmp_path: Path) -> None:
    names = years(tmp_path / "ledger", 1000)
    found: list[str] = []
    before = None
    while True:
        page = read_ledger(tmp_path / "ledger", count=60, before=before)
        assert all(len(night.messages) == 3 and night.up_bytes == 1 for night in page.nights)
        found += [night.night for night in page.nights]
        if (before := page.before) is None:
            break
    assert found == names[::-1]


def test_last_weeks_are_read_without_the_years_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    years(tmp_path / "ledger", 2000)
    read: list[int] = []
    real = ledger_reader._line

    def counted(offset: int, data: bytes) -> ledger_reader.Line:
        read.append(len(data))
        return real(offset, data)

    monkeypatch.setattr(ledger_reader, "_line", counted)
    assert len(read_ledger(tmp_path / "ledger", count=14).nights) == 14
    assert len(read) == 14 * 4 + 1
    assert last_traffic(tmp_path / "ledger") == (1, 2)
    assert len(read) == 14 * 4 + 2


@pytest.mark.parametrize("block", [1, 7, 64, 65536])
def test_lines_are_whole_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(ledger_reader, "_BLOCK_BYTES", block)
    written = [{"n": number, "text": "ä" * number} for number in range(30)]
    path = tmp_path / "ledger"
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in written) + "\n\n")
    found = list(lines_backwards(path))
    assert [line.body for line in found] == written[::-1]
    data = path.read_bytes()
    for line in found:
        assert json.loads(data[line.offset :].splitlines()[0]) == line.body
        earlier = [each.body for each in lines_backwards(path, before=line.offset)]
        assert line.body is not None
        assert earlier == written[: line.body["n"]][::-1]


def test_no_night_has_no_traffic(tmp_path: Path) -> None:
    assert last_traffic(tmp_path / "ledger") == (0, 0)


# What the page asks


class Site:
    def __init__(self, root: Path, other: tuple[OtherWay, ...] = ()) -> None:
        self.paths = CameraPaths(root)
        self.quiet: list[str] = []
        forgetter = Forgetter(self.paths, "North gate", lambda: self.quiet.append("quiet"))
        self.routes = router(self.paths.ledger, "Harbour site, 10.0.0.5:9443", forgetter, UTC, other=lambda: other)

    def get(self, path: str, who: str = "viewer") -> Any:
        answer = OneRouterPage(self.routes, who).get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


def test_the_page_gets_nights_sentences_and_every_other_way_out(tmp_path: Path) -> None:
    site = Site(tmp_path, (OtherWay("mqtt", "12 messages to broker:8883, none with a picture."),))
    hold(site.paths.ledger, "2026-11-21", version=7)
    note_page_request(site.paths.ledger, to="10.0.0.5:9444", size_bytes=612, names=["gate.local"])
    hold(site.paths.ledger, "2026-11-22")
    body = site.get("/api/privacy")
    assert [night["night"] for night in body["nights"]] == ["2026-11-22", "2026-11-21"]
    night = body["nights"][0]
    assert (night["to"], night["learned_frames"], night["version"]) == ("Harbour site, 10.0.0.5:9443", 208, 8)
    assert night["messages"][1]["arrays"][0]["shape"] == [3, 4]
    assert night["at_utc"] == night["messages"][0]["at_utc"]
    assert REVEALS in body["sentences"]
    assert "Harbour site, 10.0.0.5:9443" in body["sentences"][0]
    assert [way["name"] for way in body["other"]] == ["mqtt", "page certificate"]
    assert "gate.local: 612 bytes to 10.0.0.5:9444" in body["other"][1]["sentence"]
    assert body["other"][1]["at_utc"]
    assert (body["broken"], body["before"]) == ([], None)


def test_older_nights_come_with_before(tmp_path: Path) -> None:
    site = Site(tmp_path)
    years(site.paths.ledger, 5)
    first = site.get("/api/privacy?count=2")
    second = site.get(f"/api/privacy?count=2&before={first['before']}")
    names = [night["night"] for page in (first, second) for night in page["nights"]]
    assert names == ["2023-01-05", "2023-01-04", "2023-01-03", "2023-01-02"]


@pytest.mark.parametrize("query", ["count=0", "count=61", "before=-1", "before=x"])
def test_a_question_out_of_range_is_refused(tmp_path: Path, query: str) -> None:
    assert OneRouterPage(Site(tmp_path).routes).get(f"/api/privacy?{query}").status_code == 422


def test_strangers_read_nothing(tmp_path: Path) -> None:
    assert OneRouterPage(Site(tmp_path).routes, "stranger").get("/api/privacy").status_code == 401


# Forgetting by the page


def test_an_admin_who_types_the_name_gets_the_proof_and_the_process_is_told_to_end(tmp_path: Path) -> None:
    site = Site(tmp_path)
    hold(site.paths.ledger, "2026-11-22")
    answer = OneRouterPage(site.routes).post("/api/forget", {"name": "North gate"})
    assert answer.status_code == 200
    proof = answer.json()["proof"]
    assert (proof["camera"], proof["by"], proof["remains"]) == ("North gate", "Ada", [])
    assert proof["was"]["ledger"]["files"] == 1
    assert site.quiet == ["quiet"]
    assert not site.paths.ledger.exists()


@pytest.mark.parametrize("who", ["stranger", "viewer", "labeller"])
def test_nobody_else_can_have_it_forgotten(tmp_path: Path, who: str) -> None:
    site = Site(tmp_path)
    hold(site.paths.ledger, "2026-11-22")
    answer = OneRouterPage(site.routes, who).post("/api/forget", {"name": "North gate"})
    assert answer.status_code == (401 if who == "stranger" else 403)
    assert site.paths.ledger.exists()


@pytest.mark.parametrize("typed", ["", "north gate", "North gate 2", "*"])
def test_another_name_forgets_nothing(tmp_path: Path, typed: str) -> None:
    site = Site(tmp_path)
    hold(site.paths.ledger, "2026-11-22")
    answer = OneRouterPage(site.routes).post("/api/forget", {"name": typed})
    assert answer.status_code == 422
    assert "type its name: North gate" in answer.json()["error"]["do"]
    assert site.paths.ledger.exists()
    assert site.quiet == []
