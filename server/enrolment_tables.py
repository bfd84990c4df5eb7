"""The tables behind enrolment: codes that were given out, and cameras that ask to be let in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.errors import StoreError
from appliance.join_code import key_fingerprint
from server.codes import OpenCode
from server.database import Database, now

WRONG_TRIES = 5  # with one code, after which it is dead
_SELECT = "SELECT id, name, public_key, address, asked_utc, decision, decided_utc, reason, node_id FROM requests"
_KEEP_DEAD_CODES_DAYS = 30


@dataclass(frozen=True)
class JoinRequest:
    """A camera that asks, or asked, to be let in.

    Attributes:
        id: Counts up.
        name: What it calls itself.
        fingerprint: Of its public key; the camera shows the same.
        address: Where it asked from.
        asked_utc: ISO 8601.
        decision: None while it waits; "approved", "refused", or "replaced" by a newer one of the same key.
        decided_utc: ISO 8601; None while it waits.
        reason: Why it was refused.
        public_key: OpenSSH's form, one line.
        node_id: Flower's, once approved.
    """

    id: int
    name: str
    fingerprint: str
    address: str
    asked_utc: str
    decision: str | None = None
    decided_utc: str | None = None
    reason: str = ""
    public_key: str = ""
    node_id: int | None = None


class EnrolmentTables:
    """Codes and requests in the registry's file.

    Args:
        path: See :class:`server.database.Database`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    # Codes

    def add_code(self, code: str, key: bytes, *, minutes: float, cameras: int, approved_by: str = "") -> str:
        """Note a code.

        Args:
            code: Its id.
            key: See :meth:`appliance.join_code.Code.key`.
            minutes: How long it counts.
            cameras: How many may ask with it.
            approved_by: Who lets in whoever brings it, without a second look; empty for nobody.

        Returns:
            When it runs out, ISO 8601.

        Raises:
            StoreError: A code of this id is there already.
        """
        made = datetime.now(UTC)
        expires = (made + timedelta(minutes=minutes)).isoformat(timespec="seconds")
        dead = (made - timedelta(days=_KEEP_DEAD_CODES_DAYS)).isoformat(timespec="seconds")
        with self._database.open() as database:
            database.execute("DELETE FROM codes WHERE expires_utc < ?", (dead,))
            database.execute(
                "INSERT INTO codes (id, key, made_utc, expires_utc, uses_left, tries_left, approved_by)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (code, key, now(), expires, cameras, cameras - 1 + WRONG_TRIES, approved_by),
            )
        return expires

    def approved_by(self, request_id: int) -> str:
        """Who approved, by its code and beforehand, a request that waits; empty where a person must look at it."""
        with self._database.open() as database:
            row = database.execute(
                "SELECT approved_by FROM requests JOIN codes ON codes.id = code"
                " WHERE requests.id = ? AND decision IS NULL AND asked_utc <= expires_utc",
                (request_id,),
            ).fetchone()
        return str(row[0]) if row else ""

    def open_codes(self) -> list[OpenCode]:
        """Those that still let cameras ask, newest first."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT id, expires_utc, uses_left, tries_left FROM codes"
                " WHERE expires_utc > ? AND uses_left > 0 AND tries_left > 0 ORDER BY made_utc DESC, id",
                (now(),),
            ).fetchall()
        return [OpenCode(*row) for row in rows]

    def spend_try(self, code: str) -> bytes | None:
        """A camera begins with a code: one try is spent, which :meth:`give_try_back` returns to who knew the secret.

        Returns:
            The code's key; None where no code of that id counts any more.
        """
        with self._database.open() as database:
            row = database.execute(
                "UPDATE codes SET tries_left = tries_left - 1 WHERE id = ? AND expires_utc > ? AND tries_left > 0"
                " RETURNING key",
                (code, now()),
            ).fetchone()
        return bytes(row[0]) if row else None

    def key(self, code: str) -> bytes | None:
        """The key of a code that hasn't run out; None where there is none."""
        with self._database.open() as database:
            row = database.execute("SELECT key FROM codes WHERE id = ? AND expires_utc > ?", (code, now())).fetchone()
        return bytes(row[0]) if row else None

    def give_try_back(self, code: str) -> None:
        """The camera knew the secret: its try doesn't count."""
        with self._database.open() as database:
            database.execute("UPDATE codes SET tries_left = tries_left + 1 WHERE id = ?", (code,))

    def why_dead(self, code: str) -> str:
        """Why a code lets nobody ask, in a sentence; empty where it does."""
        with self._database.open() as database:
            row = database.execute(
                "SELECT expires_utc, uses_left, tries_left FROM codes WHERE id = ?", (code,)
            ).fetchone()
        if row is None:
            return "This server has not given out such a code"
        if row[0] <= now():
            return f"The code ran out on {row[0]}"
        if row[2] <= 0:
            return "The code is dead: too many tries with it failed"
        return "The code was used already" if row[1] <= 0 else ""

    # Requests

    def ask(self, code: str, name: str, public_key: str, address: str, token: str) -> int | None:
        """A camera that knows a code's secret asks; this takes one of the code's uses.

        The same key asking once more with it replaces its own request and takes no other use: it was cut off before
        it had heard the answer.

        Returns:
            The request's id; None where the code has no use left.
        """
        row = (code, name, public_key, address, _hashed(token), now())
        with self._database.open() as database:
            database.execute("BEGIN IMMEDIATE")
            again = database.execute(
                "UPDATE requests SET decision = 'replaced', decided_utc = ? WHERE public_key = ? AND decision IS NULL"
                " RETURNING code",
                (now(), public_key),
            ).fetchall()
            taken = (code,) in again or database.execute(
                "UPDATE codes SET uses_left = uses_left - 1 WHERE id = ? AND uses_left > 0 RETURNING id", (code,)
            ).fetchone()
            if not taken:
                database.execute("ROLLBACK")
                return None
            (request,) = database.execute(
                "INSERT INTO requests (code, name, public_key, address, token_hash, asked_utc)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                row,
            ).fetchone()
            database.execute("COMMIT")
        return int(request)

    def requests(self, *, open_only: bool = True) -> list[JoinRequest]:
        """Who asks, oldest first; all who ever asked without ``open_only``."""
        with self._database.open() as database:
            rows = database.execute(f"{_SELECT} WHERE decision IS NULL OR NOT ? ORDER BY id", (open_only,)).fetchall()
        return [_request(row) for row in rows]

    def request(self, request_id: int) -> JoinRequest:
        """One of them.

        Raises:
            StoreError: There is none.
        """
        with self._database.open() as database:
            row = database.execute(f"{_SELECT} WHERE id = ?", (request_id,)).fetchone()
        if row is None:
            raise StoreError(f"There is no request {request_id}", do="sitecam-server requests lists them")
        return _request(row)

    def request_of(self, request_id: int, token: str) -> JoinRequest | None:
        """The request, for the camera that made it and has its token; None for anybody else."""
        with self._database.open() as database:
            row = database.execute(
                f"{_SELECT} WHERE id = ? AND token_hash = ?", (request_id, _hashed(token))
            ).fetchone()
        return _request(row) if row else None

    def decide(self, request_id: int, decision: str, *, reason: str = "", node_id: int | None = None) -> None:
        """Note what a person decided.

        Raises:
            StoreError: It was decided otherwise meanwhile.
        """
        node = None if node_id is None else str(node_id)
        with self._database.open() as database:
            done = database.execute(
                "UPDATE requests SET decision = ?, decided_utc = ?, reason = ?, node_id = ?"
                " WHERE id = ? AND decision IS NULL RETURNING id",
                (decision, now(), reason, node, request_id),
            ).fetchone()
        if done is None:
            found = self.request(request_id)
            if found.decision != decision:
                raise StoreError(f"{found.name}'s request was {found.decision} meanwhile", means="It stays so")


def _request(row: tuple[int, str, str, str, str, str | None, str | None, str, str | None]) -> JoinRequest:
    return JoinRequest(
        id=row[0],
        name=row[1],
        fingerprint=key_fingerprint(row[2]),
        address=row[3],
        asked_utc=row[4],
        decision=row[5],
        decided_utc=row[6],
        reason=row[7],
        public_key=row[2],
        node_id=None if row[8] is None else int(row[8]),
    )


def _hashed(token: str) -> str:
    """A token has 256 random bits: a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
