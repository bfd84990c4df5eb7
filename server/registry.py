"""The server's memory of its nights: rounds, replies, models, verdicts, and what was said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.errors import StoreError
from appliance.models.verdict import Verdict
from server.database import Database, now

if TYPE_CHECKING:  # trainer.messages needs Flower, which the registry does not
    from trainer.messages import CameraStatus


@dataclass(frozen=True)
class NightRecord:
    """One night.

    Attributes:
        id: Counts up.
        name: As people call it, e.g. its date.
        outcome: None while it goes on; else a key of :data:`server.night.EXIT_CODES`.
        message: One sentence.
        figures: What was measured, by name.
        began_utc: ISO 8601.
        ended_utc: ISO 8601; None while it goes on.
    """

    id: int
    name: str
    outcome: str | None
    message: str
    figures: Mapping[str, Any]
    began_utc: str = ""
    ended_utc: str | None = None


@dataclass(frozen=True)
class RoundRecord:
    """One round of a night.

    Attributes:
        round: From 1; 0 is the exact start from class means.
        seconds: From the question to the new global head.
        strategy: Its name in the settings; "class means" for round 0.
        asked: Cameras.
        used: Replies that went into the new head.
        frames: The server's test frames.
        correct: Of those, named right by the new head.
        loss: Mean cross-entropy on them, nats.
        epsilon: Spent since the fleet began, where noise is added; else None.
        began_utc: ISO 8601.
    """

    round: int
    seconds: float
    strategy: str
    asked: int
    used: int
    frames: int
    correct: int
    loss: float
    epsilon: float | None = None
    began_utc: str = ""


@dataclass(frozen=True)
class ReplyRecord:
    """What became of one camera's reply.

    Attributes:
        round: See :class:`RoundRecord`.
        kind: "train", "means" or "test".
        camera: Its name.
        used: It counted.
        bad: It came and could not be used: the camera's fault. Late and missing ones are not bad.
        reason: Why it was not used, in a sentence.
        examples: Frames behind it, where known.
        loss: Mean loss of its last epoch, where known.
        norm: Euclidean norm of its update, where known.
    """

    round: int
    kind: str
    camera: str
    used: bool
    bad: bool = False
    reason: str = ""
    examples: int | None = None
    loss: float | None = None
    norm: float | None = None


@dataclass(frozen=True)
class ModelRecord:
    """A version that a night made.

    Attributes:
        version: Its number.
        night: The night's id.
        parent: The version it was trained from.
        outcome: "canary" (on trial on one camera), "published" or "withdrawn".
        reason: The gate's, or why it was withdrawn.
        metrics: As in its manifest.
        created_utc: ISO 8601.
    """

    version: int
    night: int
    parent: int
    outcome: str
    reason: str
    metrics: Mapping[str, Any]
    created_utc: str = ""


ONLY_DEPLOY = "only deploy"  # in a checkpoint: the night trains nothing
TABLES = ("cameras", "nights", "events", "statuses", "boards", "rounds", "replies", "models", "verdicts", "trail")


class Registry:
    """The nights in the registry's file.

    Args:
        path: See :class:`server.database.Database`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    # Nights

    def begin(self, name: str) -> int:
        """Start a night; return its id."""
        with self._database.open() as database:
            cursor = database.execute("INSERT INTO nights (name, began_utc) VALUES (?, ?)", (name, now()))
            night = cursor.lastrowid
        if night is None:
            raise StoreError("SQLite gave the night no id", means="The night is not held")
        return night

    def note(self, night: int, text: str) -> None:
        """Something happened, in a sentence."""
        with self._database.open() as database:
            database.execute("INSERT INTO events (night, at_utc, text) VALUES (?, ?, ?)", (night, now(), text))

    def end(self, night: int, outcome: str, message: str, figures: Mapping[str, Any]) -> None:
        """The night is over. The first end counts: a process that died later can't rewrite it."""
        with self._database.open() as database:
            database.execute(
                "UPDATE nights SET ended_utc = ?, outcome = ?, message = ?, figures = ?, checkpoint = '{}'"
                " WHERE id = ? AND outcome IS NULL",
                (now(), outcome, message, json.dumps(figures), night),
            )

    def night(self, night: int) -> NightRecord:
        """A night as it stands.

        Raises:
            StoreError: There is no such night.
        """
        with self._database.open() as database:
            row = database.execute(_NIGHTS + "WHERE id = ?", (night,)).fetchone()
        if row is None:
            raise StoreError(f"There is no night {night}", do="Look at sitecam-server status")
        return _night(row)

    def nights(self, *, limit: int = 100) -> list[NightRecord]:
        """The latest nights, newest first."""
        with self._database.open() as database:
            rows = database.execute(_NIGHTS + "ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
        return [_night(row) for row in rows]

    def unended(self) -> list[NightRecord]:
        """Nights that have no outcome yet, newest first."""
        with self._database.open() as database:
            rows = database.execute(_NIGHTS + "WHERE outcome IS NULL ORDER BY id DESC").fetchall()
        return [_night(row) for row in rows]

    def events(self, night: int, *, after: int = 0) -> list[tuple[int, str]]:
        """(id, sentence) of what happened in a night after event ``after``."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT id, text FROM events WHERE night = ? AND id > ? ORDER BY id", (night, after)
            ).fetchall()
        return [(int(number), str(text)) for number, text in rows]

    # Where a night stands, for a server that restarts in its midst

    def checkpoint(self, night: int) -> dict[str, Any]:
        """What :meth:`put_checkpoint` last wrote; empty where nothing was."""
        with self._database.open() as database:
            row = database.execute("SELECT checkpoint FROM nights WHERE id = ?", (night,)).fetchone()
        return dict(json.loads(row[0])) if row else {}

    def put_checkpoint(self, night: int, state: Mapping[str, Any]) -> None:
        """Replace what a later process needs to go on with the night."""
        with self._database.open() as database:
            database.execute("UPDATE nights SET checkpoint = ? WHERE id = ?", (json.dumps(state), night))

    # Cameras' words

    def put_status(self, night: int, camera: str, status: CameraStatus) -> None:
        """What a camera said of itself in a night."""
        row = (
            *(night, camera, now(), status.version, json.dumps(dict(status.train_frames))),
            *(json.dumps(dict(status.test_frames)), status.objection, status.health),
        )
        with self._database.open() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT OR REPLACE INTO statuses VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            if status.board is not None:
                board = json.dumps(asdict(status.board))
                database.execute("INSERT OR REPLACE INTO boards VALUES (?, ?, ?)", (night, camera, board))
            database.execute("COMMIT")

    # Rounds and replies

    def put_round(self, night: int, record: RoundRecord) -> None:
        """A round is over."""
        row = (
            *(night, record.round, record.began_utc or now(), record.seconds, record.strategy, record.asked),
            *(record.used, record.frames, record.correct, record.loss, record.epsilon),
        )
        with self._database.open() as database:
            database.execute("INSERT OR REPLACE INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def rounds(self, night: int) -> list[RoundRecord]:
        """A night's rounds, in order."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT round, seconds, strategy, asked, used, frames, correct, loss, epsilon, began_utc FROM rounds"
                " WHERE night = ? ORDER BY round",
                (night,),
            ).fetchall()
        return [RoundRecord(*row) for row in rows]

    def noisy_rounds(self) -> int:
        """How many rounds of all nights had noise added: what the privacy budget is counted from."""
        with self._database.open() as database:
            (count,) = database.execute("SELECT COUNT(*) FROM rounds WHERE epsilon IS NOT NULL").fetchone()
        return int(count)

    def put_replies(self, night: int, replies: list[ReplyRecord]) -> None:
        """What became of the replies to one question, all cameras in one transaction."""
        rows = [
            (
                *(night, reply.round, reply.kind, reply.camera, int(reply.used), int(reply.bad)),
                *(reply.reason, reply.examples, reply.loss, reply.norm),
            )
            for reply in replies
        ]
        with self._database.open() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            database.execute("COMMIT")

    def replies(self, night: int) -> list[ReplyRecord]:
        """A night's replies, by round, kind and camera."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT round, kind, camera, used, bad, reason, examples, loss, norm FROM replies"
                " WHERE night = ? ORDER BY round, kind DESC, camera",
                (night,),
            ).fetchall()
        return [
            ReplyRecord(row[0], row[1], row[2], bool(row[3]), bool(row[4]), row[5], row[6], row[7], row[8])
            for row in rows
        ]

    # Models and verdicts

    def put_model(self, record: ModelRecord) -> None:
        """A version was made, or its outcome changed."""
        row = (record.version, record.night, record.parent, record.created_utc or now())
        with self._database.open() as database:
            database.execute(
                "INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (version) DO UPDATE SET outcome = excluded.outcome, reason = excluded.reason",
                (*row, record.outcome, record.reason, json.dumps(dict(record.metrics))),
            )

    def models(self) -> list[ModelRecord]:
        """All versions that nights made, newest first."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT version, night, parent, outcome, reason, metrics, created_utc FROM models ORDER BY version DESC"
            ).fetchall()
        return [ModelRecord(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), row[6]) for row in rows]

    def put_verdict(self, night: int, camera: str, version: int, verdict: Verdict | None) -> None:
        """What a camera made of a version; None where it did not answer."""
        text = None if verdict is None else verdict.to_json()
        with self._database.open() as database:
            database.execute(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)", (night, camera, version, now(), text)
            )

    def verdicts(self, night: int, version: int | None = None) -> dict[str, Verdict | None]:
        """Verdicts of a night by camera, on one version or on the highest; None for one that did not answer."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT camera, verdict FROM verdicts WHERE night = ? AND version ="
                " COALESCE(?, (SELECT MAX(version) FROM verdicts WHERE night = ?)) ORDER BY camera",
                (night, version, night),
            ).fetchall()
        return {str(camera): None if text is None else Verdict.from_json(text) for camera, text in rows}

    # Everything

    def table(self, name: str) -> list[dict[str, Any]]:
        """A table as an export holds it, row by row.

        Raises:
            KeyError: There is no such table. Codes and tokens of enrolment are in none.
        """
        if name not in TABLES:
            raise KeyError(name)
        with self._database.open() as database:
            cursor = database.execute(f"SELECT * FROM {name} ORDER BY rowid")  # noqa: S608  # one of ours
            columns = [column[0] for column in cursor.description]
            return [dict(zip(columns, row, strict=True)) for row in cursor]


_NIGHTS = "SELECT id, name, outcome, message, figures, began_utc, ended_utc FROM nights "


def _night(row: tuple[Any, ...]) -> NightRecord:
    return NightRecord(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5], row[6])
