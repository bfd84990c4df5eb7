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
        scene: The scene that it had in the store where it comes from. It keeps it, whatever it looks like.
    """

    likeness: bytes
    block: int | None
    split: Literal["train", "test"] | None
    scene: str | None = None


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
    groups = _groups(sightings)
    of_group: dict[int, str] = {}
    _find_known(database, sightings, groups, of_group)
    for block in dict.fromkeys(sighting.block for sighting in sightings):
        _find_twins(database, block, sightings, groups, of_group)
    for group in dict.fromkeys(int(group) for group in groups):
        if group not in of_group:
            members = [sightings[int(place)] for place in np.flatnonzero(groups == group)]
            of_group[group] = _new_scene(database, members)
    return [of_group[int(group)] for group in groups]


def _groups(sightings: Sequence[Sighting]) -> Places:
    """For each sighting the place of the first one that shares its scene."""
    strangers = [place for place, sighting in enumerate(sightings) if sighting.scene is None]
    alike = scenes(stacked([sightings[place].likeness for place in strangers])) if strangers else ()
    names: list[tuple[object, ...]] = [(sighting.scene,) for sighting in sightings]
    for place, group in zip(strangers, alike, strict=True):
        names[place] = (int(group), sightings[place].block)
    first: dict[tuple[object, ...], int] = {}
    return np.array([first.setdefault(name, place) for place, name in enumerate(names)], np.intp)


def _find_known(
    database: sqlite3.Connection, sightings: Sequence[Sighting], groups: Places, of_group: dict[int, str]
) -> None:
    """Give the groups that name a stored scene that scene."""
    for place in dict.fromkeys(int(group) for group in groups):
        scene = sightings[place].scene
        if scene and database.execute("SELECT 1 FROM scenes WHERE id = ?", (scene,)).fetchone():
            of_group[place] = scene


def _find_twins(
    database: sqlite3.Connection,
    block: int | None,
    sightings: Sequence[Sighting],
    groups: Places,
    of_group: dict[int, str],
) -> None:
    """Give the groups of one block's sightings the scene of a stored frame that looks like one of them."""
    query = "SELECT likeness, scene FROM frames JOIN scenes ON scene = scenes.id"
    if block is None:
        rows = database.execute(query).fetchall()
    else:
        rows = database.execute(f"{query} WHERE block = ?", (block,)).fetchall()
    known = stacked([row[0] for row in rows])
    for place, sighting in enumerate(sightings):
        if sighting.block == block and int(groups[place]) not in of_group:
            twins = near(known, sighting.likeness)
            if len(twins):
                of_group[int(groups[place])] = str(rows[int(twins[0])][1])


def _new_scene(database: sqlite3.Connection, members: Sequence[Sighting]) -> str:
    scene = members[0].scene or secrets.token_hex(16)
    wishes = {member.split for member in members if member.split is not None}
    drawn = "test" if int(scene[:8], 16) / 2**32 < _TEST_SHARE else "train"
    split = wishes.pop() if len(wishes) == 1 else "train" if wishes else drawn
    block = next((member.block for member in members if member.block is not None), None)
    database.execute("INSERT INTO scenes VALUES (?, ?, ?)", (scene, split, block))
    return scene
