"""Queue, review and frame lists with 100,000 frames: every query walks an index, and none of them sorts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from appliance.config import LabellingSettings
from appliance.labelling.queue import DayQueue
from appliance.store import review
from appliance.store.frames import FrameStore, Row
from tests.fakes.labelling import NOON, fill

FRAMES = 100_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrameStore]:
    """A store of 100,000 frames, inserted as rows."""
    root = tmp_path_factory.mktemp("large") / "store"
    FrameStore(root).close()
    fill(root / "frames.sqlite", FRAMES)
    with FrameStore(root) as store:
        yield store


@pytest.fixture
def asked(large: FrameStore, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sequence[Any]]]:
    """What the store is asked, while it answers as ever."""
    queries: list[tuple[str, Sequence[Any]]] = []
    answer = large.rows

    def rows(query: str, values: Sequence[Any] = ()) -> list[Row]:
        queries.append((query, values))
        return answer(query, values)

    monkeypatch.setattr(large, "rows", rows)
    return queries


def _queue(store: FrameStore) -> DayQueue:
    return DayQueue(store, LabellingSettings(), NOON.tzinfo or NOON.astimezone().tzinfo, now=lambda: NOON)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store: _queue(store).today("Ada"), id="queue"),
        pytest.param(lambda store: _queue(store).done_today(), id="done today"),
        pytest.param(lambda store: review.disagreements(store, 1, 60), id="review"),
        pytest.param(lambda store: review.count_disagreements(store, 1), id="review's total"),
        pytest.param(lambda store: review.page(store, most=60), id="all frames"),
        pytest.param(lambda store: review.page(store, most=60, label="head"), id="of a label"),
        pytest.param(lambda store: review.page(store, most=60, state="waiting"), id="waiting"),
        pytest.param(lambda store: review.page(store, most=60, state="unclear"), id="unclear"),
        pytest.param(lambda store: review.page(store, most=60, state="labelled", split="test"), id="labelled"),
    ],
)
def test_no_query_scans_the_table_or_sorts_it(
    large: FrameStore, asked: list[tuple[str, Sequence[Any]]], act: Callable[[FrameStore], object]
) -> None:
    act(large)
    assert asked
    for query, values in list(asked):
        plan = [str(row[3]) for row in large.rows(f"EXPLAIN QUERY PLAN {query}", values)]
        bad = [step for step in plan if step == "SCAN frames" or "TEMP B-TREE FOR" in step]
        assert not bad, f"{query}\n{plan}"


def test_the_queue_reads_a_few_hundred_rows_and_gives_a_dozen(
    large: FrameStore, asked: list[tuple[str, Sequence[Any]]]
) -> None:
    day = _queue(large).today("Ada")
    assert len(day.frames) == 12
    assert len(asked) < 12


def test_the_review_s_grid_is_as_long_as_asked_and_ordered(large: FrameStore) -> None:
    found = review.disagreements(large, 1, 60)
    scores = [frame.score or 0.0 for frame in found]
    assert len(found) == 60
    assert scores == sorted(scores, reverse=True)
