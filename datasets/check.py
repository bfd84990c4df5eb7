"""Looks at a data set before anybody trusts a score: twins, leaks, imbalance, bad pictures, telling sources."""

from __future__ import annotations

import io
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from appliance.errors import DatasetError, PictureError
from appliance.vision import decode
from datasets.folders import SPLITS
from datasets.formats import format_of, opened
from datasets.likeness import content_hash, likeness, scenes, stacked
from datasets.pictures import LabelledPicture
from datasets.tells import find_tells

TINY_PX = 96  # the smallest input that Edge Impulse's own image models take
MOST_TO_ONE = 3.0  # pictures of the commonest label for one of the rarest
FEWEST_TEST = 30  # test pictures of a label: 30 right of 30 is no more than "above 88 %" (Wilson, 95 %)

_CAMERA_TAGS = (0x010F, 0x0110)  # EXIF: make, model
_OWN_KEYS = {"cut_from", "scene", "taken_utc", "labelled_utc", "labelled_by", "guess", "score", "reason"}


@dataclass(frozen=True)
class Finding:
    """Something to know before a score is trusted.

    Attributes:
        kind: One word for programs.
        sentence: For people.
        files: What it is about: one file a line, or twins joined by ``" = "``.
    """

    kind: str
    sentence: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        format: In which the data set is.
        counts: Readable pictures per split ("none" where nobody said) and label ("" for none).
        pictures: How many could be read.
        different: How many of them are left if every scene counts once.
        findings: What to know, the worst first.
        notes: What the reader passed over.
    """

    format: str
    counts: dict[str, dict[str, int]]
    pictures: int
    different: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def text(self, *, files: int = 3) -> str:
        """For people, with some files of each finding."""
        lines = [f"{self.format}: {self.pictures} pictures, {self.different} different scenes"]
        for split, labels in self.counts.items():
            told = ", ".join(f"{label or 'no label'} {number}" for label, number in labels.items())
            lines.append(f"  {split}: {told}")
        lines += [f"note: {note}" for note in self.notes]
        for finding in self.findings:
            lines.append(f"{finding.kind}: {finding.sentence}")
            lines += [f"    {file}" for file in finding.files[:files]]
            if len(finding.files) > files:
                lines.append(f"    and {len(finding.files) - files} more (--json lists all)")
        return "\n".join(lines if self.findings else [*lines, "nothing found that speaks against it"])


@dataclass(frozen=True)
class _Seen:
    picture: LabelledPicture
    name: str
    width: int
    height: int
    properties: dict[str, str]
    content: str
    likeness: bytes

    @property
    def split(self) -> str:
        return self.picture.split or "none"


def check(source: Path) -> CheckReport:
    """Look at a data set in any format that :func:`datasets.formats.opened` reads.

    Raises:
        DatasetError: It can't be read at all, or has no readable picture.
        OSError: The disk refused.
    """
    seen: list[_Seen] = []
    bad: list[str] = []
    with opened(source) as found:
        for picture in found.pictures:
            name = _name(source, picture.path)
            try:
                seen.append(_look(picture, name))
            except PictureError as error:
                bad.append(f"{name}: {error.what}")
    if not seen:
        raise DatasetError(
            f"None of the {len(bad)} files in {source} could be read as a picture",
            means="There is nothing to check",
            do="Check that they are JPEG, PNG, WebP or BMP files",
        )
    scene_of = scenes(stacked([one.likeness for one in seen])).tolist()
    findings = [
        *_twins("identical", "the same picture, pixel for pixel", seen, [one.content for one in seen]),
        *_twins("near-identical", "one scene, near-identical", seen, scene_of),
        *_bad(bad),
        *_sources(seen, scene_of),
        *_balance(seen),
        *_small(seen),
    ]
    return CheckReport(format_of(source), _counts(seen), len(seen), len(set(scene_of)), tuple(findings), found.notes)


def _name(source: Path, path: Path) -> str:
    return path.relative_to(source).as_posix() if path.is_relative_to(source) else path.name


def _look(picture: LabelledPicture, name: str) -> _Seen:
    try:
        data = picture.path.read_bytes()
    except OSError as error:
        raise PictureError(f"{name} can't be opened ({error.strerror})") from error
    pixels = decode(data, name=name)
    height, width = pixels.shape[:2]
    return _Seen(picture, name, width, height, _properties(picture, data), content_hash(pixels), likeness(pixels))


def _properties(picture: LabelledPicture, data: bytes) -> dict[str, str]:
    """What a file shows of its source without a look at the picture."""
    with Image.open(io.BytesIO(data)) as image:
        tables = getattr(image, "quantization", None)  # JPEG only: which program at which quality wrote it
        encoder = f"{image.format} {zlib.crc32(repr(tables).encode()):08x}" if tables else f"{image.format}"
        shape = f"{image.width} x {image.height}"
        exif = image.getexif()
        camera = " ".join(str(exif[tag]).strip() for tag in _CAMERA_TAGS if tag in exif)
    about_kb = f"about {2 ** round(math.log2(max(1, len(data) / 1000))):,} kB"
    told = {f"metadata {key}": value for key, value in picture.metadata if key not in _OWN_KEYS}
    if picture.part:
        told["camera (folder)"] = picture.part
    return told | {
        "shape": shape,
        "file size": about_kb,
        "shape and file size": f"{shape}, {about_kb}",
        "encoder": encoder,
        "camera (EXIF)": camera,
    }


def _twins(kind: str, words: str, seen: Sequence[_Seen], keys: Sequence[object]) -> Iterator[Finding]:
    groups: dict[object, list[_Seen]] = defaultdict(list)
    for one, key in zip(seen, keys, strict=True):
        groups[key].append(one)
    twins = [group for group in groups.values() if len(group) > 1]
    if kind == "near-identical":  # the others were named already
        twins = [group for group in twins if len({one.content for one in group}) > 1]
    leaks = [group for group in twins if {"train", "test"} <= {one.split for one in group}]
    if leaks:
        tested = sum(one.split == "test" for group in leaks for one in group)
        of = sum(one.split == "test" for one in seen)
        yield Finding(
            f"{kind}-across-splits",
            f"{tested} of {of} test pictures are in train too ({words}): their score says nothing of new pictures",
            _listed(leaks),
        )
    torn = [group for group in twins if len({one.picture.label for one in group}) > 1]
    if torn:
        yield Finding(
            f"{kind}-two-labels",
            f"{len(torn)} times there is {words} under different labels: one is wrong",
            _listed(torn),
        )
    parts = [group for group in twins if len({one.picture.part for one in group}) > 1]
    if parts:
        yield Finding(
            f"{kind}-across-cameras",
            f"{len(parts)} times there is {words} at more than one camera or server",
            _listed(parts),
        )
    within = [group for group in twins if max(Counter(one.split for one in group).values()) > 1]
    if within:
        extra = sum(number - 1 for group in within for number in Counter(one.split for one in group).values())
        yield Finding(
            f"{kind}-within-split",
            f"{extra} pictures have a twin before them in their split ({words}): they count double in training and in"
            " scores",
            _listed(within),
        )


def _listed(groups: Sequence[Sequence[_Seen]]) -> tuple[str, ...]:
    return tuple(" = ".join(one.name for one in group) for group in groups)


def _bad(bad: Sequence[str]) -> Iterator[Finding]:
    if bad:
        yield Finding("unreadable", f"{len(bad)} files can't be read as pictures", tuple(bad))


def _small(seen: Sequence[_Seen]) -> Iterator[Finding]:
    small = [one for one in seen if min(one.width, one.height) < TINY_PX]
    if small:
        yield Finding(
            "tiny",
            f"{len(small)} pictures have a side below {TINY_PX} pixels, less than a model looks at",
            tuple(f"{one.name}: {one.width} x {one.height}" for one in small),
        )


def _counts(seen: Sequence[_Seen]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for split in (*SPLITS, "none"):
        of_split = Counter(one.picture.label or "" for one in seen if one.split == split)
        if of_split:
            counts[split] = dict(sorted(of_split.items()))
    return counts


def _balance(seen: Sequence[_Seen]) -> Iterator[Finding]:
    labelled = [one for one in seen if one.picture.label is not None]
    if len(labelled) < len(seen):
        names = tuple(one.name for one in seen if one.picture.label is None)
        yield Finding("unlabelled", f"{len(names)} pictures have no label", names)
    labels = sorted({str(one.picture.label) for one in labelled})
    if len(labels) < 2:
        yield Finding("one-label", "fewer than two labels: there is nothing to tell apart")
    for split in sorted({one.split for one in labelled}, reverse=True):
        counts = Counter(dict.fromkeys(labels, 0))
        counts.update(str(one.picture.label) for one in labelled if one.split == split)
        most, fewest = max(labels, key=counts.__getitem__), min(labels, key=counts.__getitem__)
        where = "" if split == "none" else f"{split}: "
        if counts[most] > MOST_TO_ONE * counts[fewest]:
            yield Finding("imbalance", f"{where}{counts[most]} pictures of {most!r}, {counts[fewest]} of {fewest!r}")
        if split == "test" and counts[fewest] < FEWEST_TEST:
            yield Finding(
                "few-to-test",
                f"{counts[fewest]} test pictures of {fewest!r}: with fewer than {FEWEST_TEST}, two models that differ"
                " by ten points may come out either way",
            )


def _sources(seen: Sequence[_Seen], scene_of: Sequence[int]) -> Iterator[Finding]:
    firsts = [one for place, one in enumerate(seen) if scene_of[place] == place and one.picture.label is not None]
    for tell in find_tells([one.properties for one in firsts], [str(one.picture.label) for one in firsts]):
        yield Finding(
            "gives-label-away",
            f"from the {tell.name} alone {tell.accuracy:.0%} of the labels can be told (by always saying the commonest,"
            f" {tell.chance:.0%}):"
            " a model may learn the source instead of what the picture shows",
            tuple(
                f"{value or 'not given'}: " + ", ".join(f"{label} {number}" for label, number in sorted(of.items()))
                for value, of in tell.values
            ),
        )
