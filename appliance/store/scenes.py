"""Which scene a new frame belongs to, and so which split: near-twins never stand on both sides of a test."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from datasets.likeness import near, scenes, stacked

Places = npt.NDArray[np.intp]

_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Sighting:
    """What decides a new frame's scene.

    Attributes:
        likeness: See :mod:`datasets.likeness`.
        block: Ten minutes of time for a live frame, which has twins in the same ten minutes only: an empty yard looks
            the same for months. None for an imported one, which may be anybody's twin.
        split: A wish, where the scene is new; without one its split is drawn.
    """

    likeness: bytes
    block: int | None
    split: Literal["train", "test"] | None


def assign_scenes(database: sqlite3.Connection, sightings: Sequence[Sighting]) -> list[str]:
    """The scene of each sighting: a known one where a near-identical frame has one, else a new one.

    Two sightings share a new scene if a chain of near-identical ones joins them. If their wishes differ the scene
    goes to train: a test frame must be unseen.

    Args:
        database: The store's, in a transaction.
        sightings: Frames that are about to be stored.
    """
    if not sightings:
        return []
    rows = database.execute("SELECT likeness, scene, block FROM frames JOIN scenes ON scene = scenes.id").fetchall()
    known = stacked([bytes(row[0]) for row in rows])
    hashes = stacked([sighting.likeness for sighting in sightings])
    groups = scenes(hashes)
    if any(sighting.block is not None for sighting in sightings):
        groups = _kept_apart_by_time(groups, sightings)
    of_group: dict[int, str] = {}
    for place, sighting in enumerate(sightings):
        twins = (rows[i] for i in near(known, sighting.likeness))
        for _, scene, block in twins:
            if sighting.block is None or block == sighting.block:
                of_group.setdefault(int(groups[place]), str(scene))
                break
    for group in dict.fromkeys(int(group) for group in groups):
        if group not in of_group:
            members = [sightings[int(place)] for place in np.flatnonzero(groups == group)]
            of_group[group] = _new_scene(database, members)
    return [of_group[int(group)] for group in groups]


def _kept_apart_by_time(groups: Places, sightings: Sequence[Sighting]) -> Places:
    """Split groups by block: the first place of each (group, block) names it."""
    first: dict[tuple[int, int | None], int] = {}
    places = [
        first.setdefault((int(group), sighting.block), place)
        for place, (group, sighting) in enumerate(zip(groups, sightings, strict=True))
    ]
    return np.array(places, np.intp)


def _new_scene(database: sqlite3.Connection, members: Sequence[Sighting]) -> str:
    scene = secrets.token_hex(16)
    wishes = {member.split for member in members if member.split is not None}
    drawn = "test" if int(scene[:8], 16) / 2**32 < _TEST_SHARE else "train"
    split = wishes.pop() if len(wishes) == 1 else "train" if wishes else drawn
    database.execute("INSERT INTO scenes VALUES (?, ?, ?)", (scene, split, members[0].block))
    return scene
