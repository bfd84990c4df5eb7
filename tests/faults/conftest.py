"""A running loop to try versions on, shared by the suites about swaps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.eim import child
from tests.fakes.eim_traces import Traces, segments_of_fake
from tests.fakes.swap_bench import SwapBench, kinds


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> Iterator[SwapBench]:
    bench = SwapBench(tmp_path_factory.mktemp("bench"), tiny_backbone)
    yield bench
    bench.stop()


@pytest.fixture
def bench(loops: SwapBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SwapBench]:
    """The loop on version 1; afterwards it is there again, and nothing more than before."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(child, "TERM_GRACE_S", 0.3)
    loops.home()
    before = kinds(Traces.now())
    yield loops
    loops.camera.runs.set()
    loops.home()
    ends = time.monotonic() + 5
    while kinds(Traces.now()) != before and time.monotonic() < ends:
        time.sleep(0.05)  # a thread that has just ended
    assert kinds(Traces.now()) == before
    assert list(temporary.iterdir()) == []
    assert segments_of_fake(tmp_path / "new.eim") == []
