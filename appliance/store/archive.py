"""A camera's own data as one zip file for its owner: pictures/ID.jpg, and labels.json with all that is known of them.

What comes back is trusted as little as anything else that is uploaded: names, sizes and numbers of files are checked
before a byte is unpacked, every field before it is used, every picture before it is stored; and it is stored as a
whole or not at all.
"""

from __future__ import annotations

import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from PIL import Image
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from appliance.errors import DatasetError, PictureError, StoreError
from appliance.store.frames import FrameStore
from appliance.store.labelling import nights_of
from appliance.store.records import Added, NewFrame, Past, Said
from appliance.vision import MAX_PICTURE_PIXELS

logger = logging.getLogger(__name__)

FORMAT = 1
LABELS = "labels.json"
MOST_FRAMES = 200_000
PICTURE_BYTES = 20_000_000
LABELS_BYTES = 100_000_000

_NAME = re.compile(r"pictures/([0-9a-f]{32})\.jpg")
_AT_ONCE = 200
_OLDEST_YEAR = 1980  # that a zip file knows

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Words = Annotated[str, Field(max_length=200)]


class Entry(BaseModel):
    """A frame in labels.json; see :class:`appliance.store.records.FrameRecord`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: _Id
    taken_utc: AwareDatetime
    source: Annotated[str, Field(min_length=1, max_length=40)]
    split: Literal["train", "test"]
    scene: _Id
    label: _Words | None = None
    labelled_by: _Words | None = None
    labelled_utc: AwareDatetime | None = None
    unclear: bool = False
    skipped: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    reason: Annotated[str, Field(max_length=40)] = ""
    version: Annotated[int, Field(ge=1, le=2**53)] | None = None
    guess: _Words | None = None
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    nights: Annotated[tuple[_Words, ...], Field(max_length=10_000)] = ()


class Labels(BaseModel):
    """labels.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    camera: _Words
    exported_utc: AwareDatetime
    frames: Annotated[tuple[Entry, ...], Field(max_length=MOST_FRAMES)]


@dataclass(frozen=True)
class ArchiveReport:
    """What an import did.

    Attributes:
        frames: In the file.
        new: That were not there.
        labelled: That have a label now and had none.
        contradictions: That are here under another label, which stays.
    """

    frames: int
    new: int
    labelled: int
    contradictions: int

    @property
    def sentence(self) -> str:
        """For people."""
        text = f"{self.new} of {self.frames} frames are new here, {self.labelled} got their label."
        if self.contradictions:
            text += f" {self.contradictions} are here under another label, which stays."
        return text


# Out


def write_archive(store: FrameStore, *, camera: str) -> Iterator[bytes]:
    """The zip file, piece by piece: never more than one picture is in memory, and nothing on the disk.

    A frame that is deleted meanwhile is left out.

    Args:
        store: What to export.
        camera: Its name.
    """
    pipe = _Pipe()
    written: list[str] = []
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # JPEGs don't get smaller
        for frame_id, taken in store.rows("SELECT id, taken_utc FROM frames ORDER BY taken_utc, rowid"):
            try:
                data = store.jpeg(frame_id)
            except StoreError as error:
                logger.warning("A frame was left out of an export: %s", error)
                continue
            archive.writestr(_info(f"pictures/{frame_id}.jpg", datetime.fromisoformat(taken)), data)
            written.append(frame_id)
            yield pipe.taken()
        with archive.open(_info(LABELS, datetime.now(UTC)), "w", force_zip64=True) as file:
            head = {"format": FORMAT, "camera": camera, "exported_utc": datetime.now(UTC).isoformat()}
            file.write(json.dumps(head)[:-1].encode() + b', "frames": [')
            between = b"\n"
            for start in range(0, len(written), _AT_ONCE):
                for entry in _entries(store, written[start : start + _AT_ONCE]):
                    file.write(between + entry.model_dump_json().encode())
                    between = b",\n"
                yield pipe.taken()
            file.write(b"\n]}\n")
    yield pipe.taken()


def _entries(store: FrameStore, ids: Sequence[str]) -> Iterator[Entry]:
    nights = nights_of(store.rows, ids)
    for frame in store.some(ids):
        yield Entry(
            id=frame.id,
            taken_utc=frame.taken_utc,
            source=frame.source,
            split=frame.split,
            scene=frame.scene,
            label=frame.label,
            labelled_by=frame.labelled_by,
            labelled_utc=frame.labelled_utc,
            unclear=frame.unclear,
            skipped=frame.skipped,
            reason=frame.reason,
            version=frame.version,
            guess=frame.guess,
            score=frame.score,
            nights=nights.get(frame.id, ()),
        )


def _info(name: str, at: datetime) -> zipfile.ZipInfo:
    moment = at.astimezone(UTC).timetuple()[:6]
    info = zipfile.ZipInfo(name, moment if moment[0] >= _OLDEST_YEAR else (_OLDEST_YEAR, 1, 1, 0, 0, 0))
    info.external_attr = 0o600 << 16
    return info


class _Pipe(io.RawIOBase):
    """What zipfile writes to; it can't go back, so zipfile writes every file's size behind it."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(data)  # type: ignore[call-overload]  # zipfile writes bytes only
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        """What has been written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


# In


def read_archive(store: FrameStore, path: Path, *, labels: Sequence[str]) -> ArchiveReport:
    """Bring an export back, into this store or another; frames that are here already stay as they are.

    Args:
        store: Where the frames go.
        path: The zip file.
        labels: The fleet's.

    Raises:
        DatasetError: It is not an export of a Sitecam, it was changed, or a picture in it can't be read. Nothing was
            stored.
        StoreFullError: There is no room for it. Nothing was stored.
        OSError: The disk refused. Nothing was stored.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pictures = _checked(archive)
            body = _labels(archive)
            _check_labels(body, pictures, labels)
            with store.incoming() as incoming:
                frames = [_unpacked(archive, pictures[entry.id], entry, incoming) for entry in body.frames]
                results = store.add_all(frames)
    except PictureError as error:
        raise _refused(error.what) from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise _refused(f"it is damaged ({error})") from error
    return _report(body.frames, results)


def _checked(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The pictures by frame; refused is whatever an export does not have."""
    entries = archive.infolist()
    if len(entries) > MOST_FRAMES + 1:
        raise _refused(f"it has {len(entries):,} files, more than {MOST_FRAMES:,}")
    pictures: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        found = _NAME.fullmatch(entry.filename)
        if entry.filename == LABELS:
            most = LABELS_BYTES
        elif found and found[1] not in pictures:
            pictures[found[1]] = entry
            most = PICTURE_BYTES
        else:
            raise _refused(f"it has a file {entry.filename[:80]!r}")
        if entry.file_size > most:
            raise _refused(f"{entry.filename} has {entry.file_size:,} bytes, more than {most:,}")
        if entry.flag_bits & 1:
            raise _refused(f"{entry.filename} is encrypted")
    if len(entries) != len(pictures) + 1:
        raise _refused(f"{LABELS} is missing or there twice")
    return pictures


def _labels(archive: zipfile.ZipFile) -> Labels:
    try:
        return Labels.model_validate_json(_read(archive, archive.getinfo(LABELS)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _refused(f"{LABELS}: {where}: {first['msg']}") from error


def _check_labels(body: Labels, pictures: dict[str, zipfile.ZipInfo], labels: Sequence[str]) -> None:
    ids = {entry.id for entry in body.frames}
    if len(ids) != len(body.frames) or ids != pictures.keys():
        raise _refused(f"{LABELS} and the pictures don't belong together")
    unknown = sorted({entry.label for entry in body.frames if entry.label is not None} - set(labels))
    if unknown:
        raise _refused(f"it has frames of {unknown[0]!r}; the fleet's labels are {', '.join(labels)}")


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: Entry, incoming: Path) -> NewFrame:
    data = _read(archive, info)
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise _refused(f"{info.filename} has {image.width} x {image.height} pixels")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _refused(f"{info.filename} is not a JPEG ({error})") from error
    path = incoming / f"{entry.id}.jpg"
    path.write_bytes(data)
    said = None
    if entry.version is not None and entry.guess is not None and entry.score is not None:
        said = Said(entry.version, entry.guess, entry.score)
    past = Past(entry.scene, entry.labelled_utc, entry.unclear, entry.skipped, entry.nights)
    return NewFrame(
        path,
        entry.taken_utc,
        entry.source,
        entry.label,
        entry.labelled_by,
        entry.split,
        entry.reason,
        said,
        past=past,
    )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A file's content: never more than its entry says, which was checked; its checksum is right."""
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise _refused(f"{info.filename} is not as long as it should be")
    return data


def _report(entries: Sequence[Entry], results: Sequence[Added]) -> ArchiveReport:
    pairs = list(zip(entries, results, strict=True))
    return ArchiveReport(
        frames=len(entries),
        new=sum(result.new for result in results),
        labelled=sum(result.labelled for result in results),
        contradictions=sum(entry.label is not None and entry.label != result.frame.label for entry, result in pairs),
    )


def _refused(why: str) -> DatasetError:
    return DatasetError(
        f"This file can't be imported: {why}",
        means="Nothing was imported",
        do="Use a file as the page's Export made it",
    )
