"""Reads JSON files that say what pictures show, and names file and line of whatever is wrong in them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from appliance.errors import DatasetError
from datasets.pictures import Box

_FAR = 1e9  # pixels; no picture is as large


@dataclass(frozen=True)
class LabelsFile:
    """A JSON file that was read.

    Attributes:
        path: The file.
        text: As it stands.
        body: Its outermost object.
    """

    path: Path
    text: str
    body: dict[str, Any]

    def refuse(self, why: str, *, line: int | None = None, do: str = "Correct it there") -> NoReturn:
        """Raise the error.

        Raises:
            DatasetError: Always.
        """
        where = str(self.path) if line is None else f"{self.path}, line {line}"
        raise DatasetError(f"{where}: {why}", means="Nothing was read", do=do)

    def line_of_item(self, key: str, number: int) -> int | None:
        """The line on which item ``number`` of the list ``key`` begins; None where that can't be told."""
        found = re.search(rf'"{re.escape(key)}"\s*:\s*\[', self.text)
        if not found:
            return None
        decoder, place = json.JSONDecoder(), found.end()
        try:
            for at in range(number + 1):
                place = _after_blanks(self.text, place)
                item, end = decoder.raw_decode(self.text, place)
                if at == number:
                    return self._line(place) if item == self.body[key][number] else None
                place = end
        except ValueError:
            return None
        return None

    def line_of_key(self, key: str) -> int | None:
        """The line on which ``key`` first stands as a key; None where that can't be told."""
        for written in (json.dumps(key), json.dumps(key, ensure_ascii=False)):
            found = re.search(re.escape(written) + r"\s*:", self.text)
            if found:
                return self._line(found.start())
        return None

    def _line(self, place: int) -> int:
        return self.text.count("\n", 0, place) + 1


def read_labels_file(path: Path) -> LabelsFile:
    """Read a JSON file whose outermost value is an object with ``"version": 1``.

    Raises:
        DatasetError: It can't be opened, isn't such a file, has a key twice, or text that isn't Unicode.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path} can't be opened ({error.strerror})", do="Check the path") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        LabelsFile(path, "", {}).refuse("this is not UTF-8 text", line=line, do="Save it as UTF-8")
    raw = LabelsFile(path, text, {})
    try:
        body = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_constant)
        json.dumps(body, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raw.refuse(f"this is not JSON ({error.msg})", line=error.lineno, do="Fetch the file again, or correct it")
    except UnicodeEncodeError:
        raw.refuse("it has half a character (a lone surrogate)", do="Rename the label or file that has it")
    except _TwiceError as error:
        raw.refuse(f"the key {error.key!r} stands twice in one object", line=raw.line_of_key(error.key))
    except (ValueError, RecursionError) as error:
        raw.refuse(f"this can't be read ({error})")
    if not isinstance(body, dict):
        raw.refuse("its outermost value is not an object", line=1)
    file = LabelsFile(path, text, body)
    if body.get("version") != 1 or isinstance(body["version"], bool):
        file.refuse(
            f"its version is {body.get('version')!r}; only version 1 is known",
            line=file.line_of_key("version"),
            do="Export it in version 1",
        )
    return file


def boxes_of(value: Any) -> tuple[Box, ...]:  # whatever stood in a file
    """Boxes as Edge Impulse writes them: a list of objects with label, x, y, width, height.

    Raises:
        ValueError: They are not; the text says why.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError("boundingBoxes is not a list")
    return tuple(_box(one) for one in value)


def boxes_out(boxes: tuple[Box, ...]) -> list[dict[str, Any]]:
    """The same, to be written."""
    return [{"label": box.label, "x": box.x, "y": box.y, "width": box.width, "height": box.height} for box in boxes]


def pairs_of(value: Any) -> tuple[tuple[str, str], ...]:  # whatever stood in a file
    """Metadata: an object of texts, as pairs in the order of the keys.

    Raises:
        ValueError: It is not.
    """
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("metadata is not an object of texts")
    return tuple(sorted(value.items()))


def _box(one: Any) -> Box:  # whatever stood in a file
    if not isinstance(one, dict) or not isinstance(one.get("label"), str):
        raise ValueError("a bounding box has no label")
    sides: list[float] = []
    for name in ("x", "y", "width", "height"):
        side = one.get(name)
        if not isinstance(side, int | float) or isinstance(side, bool) or not abs(side) < _FAR:
            raise ValueError(f"the bounding box of {one['label']!r} has no {name} that is a number of pixels")
        sides.append(side)
    x, y, width, height = sides
    if width <= 0 or height <= 0:
        raise ValueError(f"the bounding box of {one['label']!r} has no area")
    return Box(one["label"], x, y, width, height)


class _TwiceError(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for key, value in pairs:
        if key in whole:
            raise _TwiceError(key)
        whole[key] = value
    return whole


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _after_blanks(text: str, place: int) -> int:
    found = re.compile(r"[\s,]*").match(text, place)
    return found.end() if found else place
