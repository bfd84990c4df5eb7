"""What the page asks of the registry's file night after night: one query each, whatever the fleet's age and size."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.board import Board
from appliance.models.verdict import Verdict
from server.database import Database
from server.registry import RoundRecord
from trainer.messages import CameraStatus


@dataclass(frozen=True)
class LastWord:
    """What a camera last said.

    Attributes:
        night: The night's id.
        at_utc: ISO 8601.
        status: When that night began.
        accepted: The newest version that it took in that night; None where it took none.
        refused: Its verdict on a newer one that it did not take.
    """

    night: int
    at_utc: str
    status: CameraStatus
    accepted: int | None = None
    refused: Verdict | None = None

    @property
    def version(self) -> int:
        """What it runs, as far as it has told."""
        return max(self.status.version, self.accepted or 0)


class History:
    """The registry's file, read.

    Args:
        path: See :class:`server.database.Database`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def last_words(self) -> dict[str, LastWord]:
        """The last word of every camera, by name."""
        with self._database.open() as database:
            rows = database.execute(
                "WITH last AS (SELECT camera, MAX(night) AS night FROM statuses GROUP BY camera)"
                " SELECT s.camera, s.night, s.at_utc, s.version, s.train_frames, s.test_frames, s.objection, s.health,"
                " v.verdict, b.board FROM last JOIN statuses AS s USING (night, camera)"
                " LEFT JOIN boards AS b USING (night, camera)"
                " LEFT JOIN verdicts AS v ON v.night = s.night AND v.camera = s.camera ORDER BY v.version"
            ).fetchall()
        found: dict[str, LastWord] = {}
        for name, night, at_utc, version, train, test, objection, health, verdict, board in rows:
            status = CameraStatus(name, version, json.loads(train), json.loads(test), (), objection, health)
            if board is not None:
                status = replace(status, board=Board.of(json.loads(board)))
            known = found.get(name)
            accepted, refused = (None, None) if known is None else (known.accepted, known.refused)
            if verdict is not None:
                given = Verdict.from_json(verdict)
                accepted, refused = (given.version, None) if given.accepted else (accepted, given)
            found[name] = LastWord(night, at_utc, status, accepted, refused)
        return found

    def last_rounds(self) -> dict[int, RoundRecord]:
        """The last round of every night, by the night's id; nights without one are left out."""
        with self._database.open() as database:
            rows = database.execute(
                "WITH last AS (SELECT night, MAX(round) AS round FROM rounds GROUP BY night)"
                " SELECT night, round, seconds, strategy, asked, used, frames, correct, loss, epsilon, began_utc"
                " FROM last JOIN rounds USING (night, round)"
            ).fetchall()
        return {int(row[0]): RoundRecord(*row[1:]) for row in rows}

    def epsilon(self) -> float | None:
        """What the fleet has spent of its privacy so far; None where no round had noise."""
        with self._database.open() as database:
            (spent,) = database.execute("SELECT MAX(epsilon) FROM rounds").fetchone()
        return None if spent is None else float(spent)

    def night_of(self, night: int) -> list[tuple[str, str]]:
        """(time in ISO 8601, sentence) of what happened in a night."""
        with self._database.open() as database:
            return [
                (str(at), str(text))
                for at, text in database.execute(
                    "SELECT at_utc, text FROM events WHERE night = ? ORDER BY id", (night,)
                )
            ]
