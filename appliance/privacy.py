"""What left this camera, night by night, from its own ledger; and what such numbers can reveal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.ledger_reader import Line, lines_backwards

#: Word for word as in SECURITY.md, line ends aside; a test compares them.
REVEALS = (
    "Trained numbers are not pictures, but they are made from pictures, and we do not claim that they reveal nothing."
    " Known attacks reconstruct training inputs from gradients of small batches (Zhu et al.,"
    ' "Deep Leakage from Gradients", NeurIPS 2019) or tell whether an example was in a training set (Shokri et al.,'
    ' "Membership Inference Attacks", IEEE S&P 2017).'
)

_WORDS = {
    "query.status": "its name, counts of labelled frames, the model parts it holds, how its live loop is, and what its"
    " board is and the model takes on it",
    "query.means": "the sum of each label's features over five frames or more",
    "train": "the head's trained numbers",
    "evaluate": "how many of its own test frames two heads name right",
    "query.deploy": "its verdict on the new version",
    "query.close": "nothing but that it heard the night's end",
}
_TOTAL = "total"
_VERDICT, _LEARNED = "config/verdict", "metrics/num-examples"
_MOST_BROKEN = 20


@dataclass(frozen=True)
class SentArray:
    """Numbers that left.

    Attributes:
        name: In the message.
        shape: Of the array.
        dtype: Of its numbers.
        size_bytes: Of its content.
        sha256: Of its content, hex: who has the bytes can show that they are these.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class SentMessage:
    """One message.

    Attributes:
        at_utc: When it was handed over.
        kind: Flower's message type.
        words: What was in it, for a person.
        arrays: Its numbers.
        values: Its single numbers and texts, as they were.
    """

    at_utc: datetime
    kind: str
    words: str
    arrays: tuple[SentArray, ...]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class SentNight:
    """One night.

    Attributes:
        night: Its name.
        messages: What left, in order.
        up_bytes: Everything that left over the network, Flower's envelopes and TLS counted; None where the night was
            cut off before that was written.
        down_bytes: What came.
        learned_frames: Labelled frames that the head learned from; 0 where it did not train.
        version: The version that came of it; None where none came.
        taken: Whether that version earned its place here.
    """

    night: str
    messages: tuple[SentMessage, ...] = ()
    up_bytes: int | None = None
    down_bytes: int | None = None
    learned_frames: int = 0
    version: int | None = None
    taken: bool = False


@dataclass(frozen=True)
class OtherWay:
    """Something else that leaves this camera.

    Attributes:
        name: ``mqtt``, ``webhook``, ``page certificate``.
        sentence: What left, to whom, and how much, for a person.
        at_utc: When; None where that is not one moment.
    """

    name: str
    sentence: str
    at_utc: datetime | None = None


@dataclass(frozen=True)
class LedgerPage:
    """Some nights of the ledger.

    Attributes:
        nights: The newest first.
        other: What else the ledger holds between them.
        broken: Lines that can't be read, each in a sentence.
        before: Where the next older nights are, for :func:`read_ledger`; None where there are none.
    """

    nights: tuple[SentNight, ...]
    other: tuple[OtherWay, ...]
    broken: tuple[str, ...]
    before: int | None


def read_ledger(path: Path, *, count: int = 14, before: int | None = None) -> LedgerPage:
    """The last nights of a ledger, without reading the years before.

    Args:
        path: The ledger; one that isn't there is empty.
        count: So many nights.
        before: An earlier page's ``before``; from the end where it is left out.

    Raises:
        OSError: The disk refused.
    """
    nights: dict[str, SentNight] = {}
    other: list[OtherWay] = []
    broken: list[str] = []
    oldest = before
    for line in lines_backwards(path, before):
        try:
            body = _body(line)
            name = body.get("night")
            if name is None:
                other.append(_other(body))
            elif str(name) not in nights and len(nights) >= count:
                return LedgerPage(tuple(nights.values()), tuple(other), _told(broken), oldest)
            else:
                nights[str(name)] = _with(nights.get(str(name), SentNight(str(name))), body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            broken.append(line.problem or f"the line at byte {line.offset} is not as it should be ({error!r})")
        oldest = line.offset
    return LedgerPage(tuple(nights.values()), tuple(other), _told(broken), None)


def sentences(to: str) -> list[str]:
    """What people should know of all this.

    Args:
        to: The fleet and its server's address, in words; empty on a camera that works alone.
    """
    goes = f"At night this goes to {to}, and to nobody else"
    if not to:
        goes = "This camera works alone, so nothing goes to a server. In a fleet this would, at night"
    what = "trained numbers, counts, test results and verdicts. Pictures and the features of single pictures do not."
    return [f"{goes}: {what}", REVEALS]


def _body(line: Line) -> Mapping[str, Any]:
    if line.body is None:
        raise ValueError(line.problem)
    return line.body


def _with(night: SentNight, body: Mapping[str, Any]) -> SentNight:
    """A night with one more line, which is older than what is known of it."""
    kind = str(body["kind"])
    if kind == _TOTAL:  # one for each time that the night's process ended
        up_bytes, down_bytes = int(body["up_bytes"]), int(body["down_bytes"])
        return replace(
            night, up_bytes=(night.up_bytes or 0) + up_bytes, down_bytes=(night.down_bytes or 0) + down_bytes
        )
    message = _message(body)
    night = replace(night, messages=(message, *night.messages))
    if kind == "train":
        night = replace(night, learned_frames=max(night.learned_frames, int(message.values.get(_LEARNED, 0))))
    if kind == "query.deploy" and night.version is None and _VERDICT in message.values:
        verdict = json.loads(message.values[_VERDICT])
        night = replace(night, version=int(verdict["version"]), taken=bool(verdict["accepted"]))
    return night


def _message(body: Mapping[str, Any]) -> SentMessage:
    kind = str(body["kind"])
    arrays = tuple(
        SentArray(
            name=str(each["name"]),
            shape=tuple(map(int, each["shape"])),
            dtype=str(each["dtype"]),
            size_bytes=int(each["size_bytes"]),
            sha256=str(each["sha256"]),
        )
        for each in body["arrays"]
    )
    at_utc = datetime.fromisoformat(body["at_utc"])
    return SentMessage(at_utc, kind, _WORDS.get(kind, kind), arrays, dict(body["values"]))


def _other(body: Mapping[str, Any]) -> OtherWay:
    kind, to, size = str(body["kind"]), body.get("to", "its server"), int(body.get("up_bytes", 0))
    names = ", ".join(map(str, body.get("names", ())))
    what = f"A request for the page's certificate for {names}" if kind == "page certificate" else kind
    return OtherWay(kind, f"{what}: {size} bytes to {to}.", datetime.fromisoformat(body["at_utc"]))


def _told(broken: list[str]) -> tuple[str, ...]:
    """Damage is told, but a page must not be made of it."""
    if len(broken) <= _MOST_BROKEN:
        return tuple(broken)
    return (*broken[:_MOST_BROKEN], f"and {len(broken) - _MOST_BROKEN} more lines can't be read")
