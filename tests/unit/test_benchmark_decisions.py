"""The decisions benchmark runs from stills to its table, on tiny parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.errors import DatasetError
from tests.benchmarks.decisions import KINDS, ROWS, Bench, Knobs, table
from tests.benchmarks.scenes import SIDE, Kind, Material, Still, film, folds, gather, taught
from tests.fakes.parts import INPUT
from tests.fakes.pictures import class_folders
from tests.fakes.site import picture, tiny_trainer
from trainer.features import Backbone


def _stills(kind: Kind, count: int) -> tuple[Still, ...]:
    label = kind if kind in ("head", "hardhat") else "nobody"
    return tuple(
        Still(f"{kind}/{seed}", kind, f"{kind}-{seed}", picture(label, seed=seed + 50 * (kind == "unrelated")))
        for seed in range(count)
    )


def test_every_row_sees_every_film_and_the_table_says_that_films_are_stills(tiny_backbone: bytes) -> None:
    material = Material(
        _stills("head", 10) + _stills("hardhat", 10), _stills("site", 3), _stills("unrelated", 3), "squares"
    )
    graphs = {labels: tiny_trainer(labels) for labels in (2, 3)}
    bench = Bench(material, Backbone(tiny_backbone, INPUT).features, graphs, seconds=3, fps=4)
    bench.learn(lambda _: None)
    counts = bench.measure(ROWS, Knobs(), lambda _: None)
    for row in ROWS:
        assert {kind: counts[row.name][kind].films for kind in KINDS} == {
            "head": 10,
            "hardhat": 10,
            "site": 3,
            "unrelated": 3,
        }
    bare, ours = counts[ROWS[0].name], counts["+ k of n votes (ours)"]
    assert bare["head"].alarmed > 5
    assert bare["head"].hours == pytest.approx(10 * 3 / 3600)
    assert ours["site"].alarms <= bare["site"].alarms
    text = table(material, counts, 3, Knobs())
    assert "Stills made live" in text
    assert all(f"| {row.name} |" in text for row in ROWS)


def test_a_film_is_the_same_every_time_and_never_stands_still() -> None:
    (still,) = _stills("head", 1)
    first, again = (list(film(still, 4, 2)) for _ in range(2))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].pixels, first[1].pixels)
    assert first[0].pixels.shape == (SIDE, SIDE, 3)
    assert (first[2].taken_utc - first[0].taken_utc).total_seconds() == 1


def test_a_place_is_taught_in_other_light_than_it_is_seen_in() -> None:
    (still,) = _stills("site", 1)
    seen = np.mean([frame.pixels.mean() for frame in film(still, 8, 1)])
    tested = np.mean([pixels.mean() for pixels in taught(still, "test", 8)])
    assert seen > tested * 1.1


def test_pictures_of_one_scene_are_never_on_both_sides_of_a_fold() -> None:
    stills = tuple(Still(f"{n}", "head", f"scene-{n // 4}", picture("head", seed=0)) for n in range(80))
    places = folds(stills, 5)
    assert set(places.values()) == set(range(5))
    for scene in {still.scene for still in stills}:
        assert len({places[still.name] for still in stills if still.scene == scene}) == 1


def test_too_few_people_or_places_are_an_error_that_says_so(tmp_path: Path) -> None:
    people = class_folders(tmp_path / "people", seeds={"head": range(2), "hardhat": range(10, 12)})
    places = class_folders(tmp_path / "places", seeds={"yard": range(20, 26)})
    with pytest.raises(DatasetError, match="fewer than 10 scenes"):
        gather(people, places, None, tmp_path)
    few = class_folders(tmp_path / "few", seeds={"yard": range(3)})
    with pytest.raises(DatasetError, match="holds 3 pictures"):
        gather(people, few, None, tmp_path)
    with pytest.raises(DatasetError, match="no emoji font"):
        gather(people, None, None, tmp_path)
