"""Who is logged in: random tokens, kept as hashes, each with two ends. A restart of the page ends none of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import cast

from appliance.accounts_file import AccountsFile
from appliance.roles import Caller, Role

IDLE_S = 36 * 3600.0  # somebody who labels two minutes a day, now earlier, now later, stays logged in
LONGEST_S = 14 * 86400.0
_MOST = 20  # per account
_NOTED_EVERY_S = 300.0  # a use is written down so often at most: the SD card wears


class Sessions:
    """The open sessions.

    They end after :data:`IDLE_S` without a use, after :data:`LONGEST_S` however much they are used, and when they are
    ended. The clock may have stood wrong while they began: a camera has no battery for it.

    Args:
        file: Where they are.
        clock: Seconds since 1970.
    """

    def __init__(self, file: AccountsFile, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock

    def begin(self, account: str, known: str) -> str:
        """Start a session; return its token, or nothing where the account's password isn't that one any more.

        Args:
            account: Its key.
            known: The hash of the password that was right a moment ago.
        """
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._file.writing() as database:
            database.execute(
                "DELETE FROM sessions WHERE ? - used_s > ? OR ? - began_s > ?", (now, IDLE_S, now, LONGEST_S)
            )
            begun = database.execute(
                "INSERT INTO sessions SELECT ?, key, ?, ? FROM accounts WHERE key = ? AND hash = ?",
                (_name(token), now, now, account, known),
            ).rowcount
            database.execute(
                "DELETE FROM sessions WHERE account = ? AND hash NOT IN"
                " (SELECT hash FROM sessions WHERE account = ? ORDER BY used_s DESC, rowid DESC LIMIT ?)",
                (account, account, _MOST),
            )
            database.execute("UPDATE accounts SET seen_s = ? WHERE key = ?", (now, account))
        return token if begun else ""

    def who(self, token: str) -> Caller | None:
        """Whose session that is; None where it is none, or is over. Counts as a use."""
        if not token:
            return None
        now, name = self._clock(), _name(token)
        with self._file.reading() as database:
            row = database.execute(
                "SELECT accounts.name, role, began_s, used_s FROM sessions JOIN accounts ON account = key"
                " WHERE sessions.hash = ?",
                (name,),
            ).fetchone()
        if row is None or now - row[3] > IDLE_S or now - row[2] > LONGEST_S:
            return None
        if now - row[3] >= _NOTED_EVERY_S:
            with self._file.writing() as database:
                database.execute("UPDATE sessions SET used_s = ? WHERE hash = ?", (now, name))
                database.execute(
                    "UPDATE accounts SET seen_s = ? WHERE key = (SELECT account FROM sessions WHERE hash = ?)",
                    (now, name),
                )
        return Caller(row[0], cast(Role, row[1]))

    def end(self, token: str) -> None:
        """End a session; nothing happens where there is none."""
        with self._file.writing() as database:
            database.execute("DELETE FROM sessions WHERE hash = ?", (_name(token),))

    def end_all(self) -> int:
        """End everybody's; return how many those were."""
        with self._file.writing() as database:
            return database.execute("DELETE FROM sessions").rowcount


def _name(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
