"""The pure parts of ``benchmarks night``: memory of trees, growth, averaging, and what the tables say."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.models.head import Head
from appliance.store.recipe import VARIANTS
from tests.benchmarks import night_camera, night_tables, tutorial
from tests.benchmarks.watch import Watch, alone_mb, mapped_files_kb, measured, pss_mb
from tests.fakes import parts
from tests.fakes.site import tiny_trainer
from trainer.head import Recipe

SMAPS = """\
7f00-7f10 r-xp 00001000 08:01 42 /usr/lib/a.so
Rss:                 100 kB
Pss:                  20 kB
Anonymous:            30 kB
7f20-7f30 rw-p 00000000 00:00 0 [heap]
Rss:                 500 kB
Anonymous:           500 kB
7f40-7f50 r--p 00001000 08:01 42 /usr/lib/a.so
Rss:                   8 kB
Anonymous:             0 kB
"""


def test_pages_of_a_file_that_were_written_to_are_no_longer_the_files() -> None:
    assert mapped_files_kb(SMAPS) == {("08:01:42", "00001000"): 78}


def test_a_tree_alone_on_the_machine_has_at_least_its_share() -> None:
    own = pss_mb(os.getpid())

    assert own is not None
    assert alone_mb([os.getpid()]) >= own * 0.95  # what others share only adds; pages come and go meanwhile


def test_a_process_that_has_ended_has_no_memory() -> None:
    assert pss_mb(2**22 + 1) is None
    assert alone_mb([2**22 + 1]) == 0


def test_a_watch_sees_what_a_process_has_and_begins_anew_when_asked() -> None:
    with Watch([os.getpid()], lambda *_: "this", every_s=0.01) as watch:
        deadline = time.monotonic() + 10
        while watch.peak.alone_mb == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        first = watch.take()

    assert first.pss_mb > 10
    assert first.parts_mb == {"this": first.pss_mb}
    assert first.cpu_s > 0


def test_work_is_counted_in_the_cpu_seconds_that_it_takes_and_not_in_those_it_waits() -> None:
    _, waiting = measured(lambda: time.sleep(0.2))
    _, working = measured(lambda: sum(number * number for number in range(1_000_000)))

    assert waiting["cpu_s"] < 0.1 <= waiting["wall_s"]
    assert working["cpu_s"] > 0.01


@pytest.mark.parametrize(("power", "named"), [(1, 1.0), (2, 2.0)])
def test_the_slope_tells_linear_from_quadratic(power: int, named: float) -> None:
    counts = [500, 1_000, 20_000]

    assert night_tables.slope(counts, [0.3 * count**power for count in counts]) == pytest.approx(named)


def test_the_tutorials_average_weighs_by_examples() -> None:
    one, three = [np.full((1, 1), 1, np.float32)], [np.full((1, 1), 5, np.float32)]

    (mean,) = tutorial.average([one, three], [1, 3])

    assert mean.dtype == np.float32
    assert mean.tolist() == [[4.0]]


def test_the_tutorials_weights_survive_their_file(tmp_path: Path) -> None:
    weights = [np.ones((2, 3), np.float32), np.zeros(4, np.float32)]

    tutorial.save(tmp_path / "weights.npy", weights)

    read = tutorial.read(tmp_path / "weights.npy")
    assert [array.tolist() for array in read] == [array.tolist() for array in weights]
    assert tutorial.weights_bytes(read) == 40


def test_synthetic_frames_are_read_from_a_real_cache_and_learned_from(tmp_path: Path) -> None:
    manifest = parts.tiny_manifest(b"a backbone", Head.untrained(parts.FEATURES, 3, 0, seed=1).to_bytes(), version=1)
    graph = tmp_path / "trainer.tflite"
    graph.write_bytes(tiny_trainer())

    row = night_camera.frames(tmp_path / "store", graph, manifest, 60, Recipe(epochs=20, rate=0.05))

    assert row["frames"] == 60
    assert row["accuracy"] > 0.5  # of three labels
    assert row["train"]["cpu_s"] > 0


def test_synthetic_features_look_like_a_backbones() -> None:
    features = night_camera.synthetic_features(range(6), labels=3, width=16)

    assert features.shape == (6, VARIANTS, 16)
    assert features.dtype == np.float32
    assert features.min() >= 0


def figures(**changes: Any) -> dict[str, Any]:
    cost = {"cpu_s": 0.1, "wall_s": 0.1}
    work = {"train_frames": 90, "test_frames": 10, "features_cold": {"cpu_s": 5.0}, "fit": [cost], "evaluate": [cost]}
    night: dict[str, Any] = {
        "rounds": 2,
        "outcome": "published: Version 2 runs on 0 of 1 cameras",
        "tutorial": {
            "fit": {"gate-1": [48.0]},
            "evaluate": {"gate-1": [2.0]},
            "bytes": 1000,
            "peak_rss_mb": {"a": 9.0},
        },
        "work": {"gate-1": work},
        "memory": {"gate-1": {"pss_mb": 240.0, "alone_mb": 280.0, "parts_mb": {"SuperNode": 100.0}, "cpu_s": 14.0}},
        "wire_bytes_per_round": {"gate-1": {"up": 50, "down": 40}},
        "head_bytes": 2,
        "accuracy": {"gate-1": {"frames": 10, "tutorial": 0.9, "ours": 1.0}},
    }
    return night | changes


def test_the_ratio_is_of_training_and_the_first_nights_ratio_has_looking_at_the_frames_in_it() -> None:
    row = night_tables.ratios(figures())["gate-1"]

    assert row["ratio"] == pytest.approx(50 / 0.2)
    assert row["look_per_frame_s"] == pytest.approx(0.05)
    assert row["first_night_ratio"] == pytest.approx(100 / 5.4)


def test_the_table_says_where_ours_is_lower() -> None:
    worse = {"gate-1": {"frames": 10, "tutorial": 0.9, "ours": 0.8}}

    assert "LOWER" not in night_tables.table(figures())
    assert "| gate-1 | 10 | 90.0% | 80.0% LOWER |" in night_tables.table(figures(accuracy=worse))
