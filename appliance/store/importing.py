"""Brings labelled pictures, in whichever format they come, into a store, and reports what it did with every file."""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from appliance.errors import DatasetError, PictureError
from appliance.store.frames import IMPORTED, FrameStore, NewFrame, Split
from appliance.vision import decode, encode_jpeg
from datasets.boxes import cut_out
from datasets.formats import opened
from datasets.pictures import Dataset, LabelledPicture

BOXES_HELP = "bounding boxes: cut each out as a picture of its own, or ignore them (default)"
_KEEP_BYTES = 2_000_000  # a JPEG below this is kept byte for byte
_UPRIGHT = 1  # EXIF orientation
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        added: New frames per split and label.
        duplicates: Files whose picture was in the store already, or came twice.
        moved_to_train: Scenes with a file in a test folder that stand in train, because they have one in a train
            folder too, or because the store has trained on them already.
        contradictions: Files whose picture the store has under another label, with that label, which stays.
        unreadable: Files that were skipped, with the reason.
        notes: What the reader of the format passed over.
    """

    added: dict[str, dict[str, int]]
    duplicates: int
    moved_to_train: int
    contradictions: tuple[tuple[Path, str], ...]
    unreadable: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """For people."""
        lines = [
            f"{split}: " + ", ".join(f"{label} {number}" for label, number in sorted(labels.items()))
            for split, labels in sorted(self.added.items(), reverse=True)
        ] or ["nothing new"]
        if self.added and "test" not in self.added:
            lines.append("no new frame to test on: all of them, or their near-twins, are to train on")
        if self.duplicates:
            lines.append(f"{self.duplicates} identical pictures were there already or came twice")
        if self.moved_to_train:
            lines.append(
                f"{self.moved_to_train} scenes lay across train and test and went to train: a test frame must be unseen"
            )
        lines += [
            f"not relabelled {path}: the same picture is stored as {label}" for path, label in self.contradictions
        ]
        lines += [f"skipped: {reason}" for _, reason in self.unreadable]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def json(self) -> str:
        """For programs."""
        return json.dumps(
            {
                "added": self.added,
                "duplicates": self.duplicates,
                "moved_to_train": self.moved_to_train,
                "contradictions": [{"path": str(path), "label": label} for path, label in self.contradictions],
                "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable],
                "notes": self.notes,
            },
            indent=1,
        )


def import_folders(
    store: FrameStore,
    source: Path,
    *,
    labels: Sequence[str],
    by: str,
    split: Split | None = None,
    crop: bool = False,
) -> ImportReport:
    """Import class folders, with or without train and test above them; Edge Impulse's export; a camera's.

    A picture that has no label as a whole is skipped.

    Args:
        store: Where the frames go.
        source: See :func:`datasets.formats.opened`.
        labels: The fleet's.
        by: Who labelled them.
        split: Put everything into this split, whatever the folders say.
        crop: Make a picture of each bounding box, see :func:`datasets.boxes.cut_out`; else boxes are not looked at.

    Raises:
        DatasetError: No class folders, an empty one, labels that can't be read, a label that the fleet doesn't have,
            one class only, or no readable picture. The store is as it was.
        PictureError: A picture whose boxes shall be cut out can't be read. The store is as it was.
        OSError: The disk refused. The store is as it was.
        StoreError: The store did. It is as it was.
    """
    with opened(source) as found, store.incoming() as cuttings:
        if crop:
            cut = cut_out(found.pictures, cuttings)
            found = Dataset(cut.pictures, (*found.notes, *cut.notes))
        return _import(store, source, found, labels=labels, by=by, split=split)


def _import(
    store: FrameStore, directory: Path, dataset: Dataset, *, labels: Sequence[str], by: str, split: Split | None
) -> ImportReport:
    files = [picture for picture in dataset.pictures if picture.label is not None]
    unlabelled = [picture for picture in dataset.pictures if picture.label is None]
    _check_labels(store, directory, files, labels, only_test=split == "test")
    frames: list[NewFrame] = []
    read: list[LabelledPicture] = []
    unreadable = [(picture.path, f"{picture.path} has no label of its own") for picture in unlabelled]
    now = datetime.now(UTC)  # when they were taken is not known
    with store.incoming() as incoming:  # on disk, because thousands of pictures don't fit into a Pi's memory
        for number, file in enumerate(files):
            try:
                jpeg = _as_jpeg(file.path)
            except PictureError as error:
                unreadable.append((file.path, error.what))
                continue
            prepared = incoming / f"{number}.jpg"
            prepared.write_bytes(jpeg)
            read.append(file)
            frames.append(NewFrame(prepared, now, IMPORTED, file.label, by, split or file.split))
        if not frames:
            why = unreadable[len(unlabelled)][1]
            raise DatasetError(
                f"None of the {len(files)} files in {directory} could be read as a picture ({why})",
                means="Nothing was imported",
                do="Check that they are JPEG, PNG, WebP or BMP files",
            )
        results = store.add_all(frames)
    added: dict[str, dict[str, int]] = {}
    for result in results:
        if result.labelled:
            of_split = added.setdefault(result.frame.split, {})
            of_split[str(result.frame.label)] = of_split.get(str(result.frame.label), 0) + 1
    pairs = list(zip(frames, results, strict=True))
    return ImportReport(
        added=added,
        duplicates=sum(not result.new for result in results),
        moved_to_train=len(
            {result.frame.scene for frame, result in pairs if (frame.split, result.frame.split) == ("test", "train")}
        ),
        contradictions=tuple(
            (file.path, str(result.frame.label))
            for file, result in zip(read, results, strict=True)
            if result.frame.label != file.label
        ),
        unreadable=tuple(unreadable),
        notes=dataset.notes,
    )


def _check_labels(
    store: FrameStore, directory: Path, files: Sequence[LabelledPicture], labels: Sequence[str], *, only_test: bool
) -> None:
    found = {str(file.label) for file in files}
    if not found:
        raise DatasetError(
            f"No picture in {directory} has a label of its own",
            means="Boxes alone don't say what a whole picture shows; nothing was imported",
            do="Add --boxes crop: it makes a picture of every box, under the box's label",
        )
    for label in sorted(found - set(labels)):
        near = difflib.get_close_matches(label, labels, n=1, cutoff=0)
        raise DatasetError(
            f"{directory} has pictures of {label!r}, which this fleet doesn't know",
            means="Nothing was imported",
            do=f"Did you mean {near[0]!r}? Then rename the folder, or the label in info.labels. The fleet's labels are"
            f" {', '.join(labels)}; another one needs a fleet that was made with it ([fleet] labels in"
            " sitecam-server.toml)",
        )
    known = {label for by_label in store.counts().values() for label in by_label}
    if len(found | known) < 2 and not only_test:
        (only,) = found
        raise DatasetError(
            f"{directory} has pictures of {only!r} only",
            means="A model needs two kinds to tell apart; nothing was imported",
            do=f"Add a folder of another label: {', '.join(label for label in labels if label != only)}",
        )


def _as_jpeg(path: Path) -> bytes:
    """The file itself where it is an upright baseline RGB JPEG of sane size, else the picture encoded anew."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path} can't be opened ({error.strerror})") from error
    pixels = decode(data, name=str(path))
    with Image.open(io.BytesIO(data)) as image:
        plain = image.format == "JPEG" and image.mode == "RGB" and "progressive" not in image.info
        upright = image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
    if plain and upright and len(data) <= _KEEP_BYTES:
        return data
    return encode_jpeg(pixels, quality=92)
