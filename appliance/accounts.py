"""Who may use the page: accounts, and the one-time codes that make them."""

from __future__ import annotations

import sqlite3
import time
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from appliance.accounts_file import AccountsFile
from appliance.errors import ConfigError, NotAllowedError, NotThereError
from appliance.join_code import Code, new_code, read_code
from appliance.passwords import Passwords, check_password
from appliance.roles import Role
from appliance.sessions import Sessions

CODE_MINUTES = 60
_TRIES = 5
_MOST_CODES = 20
_NAME_CHARACTERS = 40
_RESERVED = ("import",)  # the store writes it where nobody labelled by hand
_DO_NEXT = "Ask an admin for another, or run `sudo sitecam login-code` on the camera"


@dataclass(frozen=True)
class Account:
    """Somebody who may log in.

    Attributes:
        name: As they typed it.
        role: What they may do.
        created_utc: Timezone-aware UTC.
        seen_utc: When they last used the page, to a few minutes; None before the first time.
    """

    name: str
    role: Role
    created_utc: datetime
    seen_utc: datetime | None


@dataclass(frozen=True)
class OneTimeCode:
    """Makes one account.

    Attributes:
        code: As people type it, like K7QF-2M9X-4PTR.
        role: The account's.
        valid_minutes: For so long.
    """

    code: str
    role: Role
    valid_minutes: int


class Accounts:
    """The accounts of one camera's page.

    Args:
        path: Their file; made where it is missing.
        known_names: The camera's and the fleet's: no password is one of them.
        passwords: How passwords are kept.
        clock: Seconds since 1970.

    Raises:
        StoreError: The file can't be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        known_names: Collection[str] = (),
        passwords: Passwords | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = AccountsFile(path)
        self._known_names = tuple(known_names)
        self._passwords = passwords or Passwords()
        self._clock = clock
        self.path = path
        self.sessions = Sessions(self._file, clock)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def empty(self) -> bool:
        """Whether nobody has an account yet."""
        with self._file.reading() as database:
            return database.execute("SELECT 1 FROM accounts LIMIT 1").fetchone() is None

    def all(self) -> list[Account]:
        """Every account, by name."""
        with self._file.reading() as database:
            rows = database.execute("SELECT name, role, created_s, seen_s FROM accounts ORDER BY key").fetchall()
        return [Account(row[0], row[1], _utc(row[2]), None if row[3] is None else _utc(row[3])) for row in rows]

    def new_code(self, role: Role, *, valid_minutes: int = CODE_MINUTES) -> OneTimeCode:
        """A code that makes one account. While there is no account it makes an admin, whatever was asked.

        Of many that nobody used, the oldest dies.
        """
        code = new_code()
        hashed = self._passwords.hash(code.secret)
        now = self._clock()
        with self._file.writing() as database:
            first = database.execute("SELECT 1 FROM accounts LIMIT 1").fetchone() is None
            given: Role = "admin" if first else role
            database.execute("DELETE FROM codes WHERE expires_s <= ? OR tries_left <= 0 OR id = ?", (now, code.id))
            database.execute(
                "INSERT INTO codes VALUES (?, ?, ?, ?, ?)", (code.id, hashed, given, now + valid_minutes * 60, _TRIES)
            )
            database.execute(
                "DELETE FROM codes WHERE id NOT IN (SELECT id FROM codes ORDER BY expires_s DESC LIMIT ?)",
                (_MOST_CODES,),
            )
        return OneTimeCode(str(code), given, valid_minutes)

    def first(self, typed: str, name: str, password: str) -> str:
        """Make an account with a one-time code, and log it in; return the session's token.

        What is wrong with name or password is said to those only who have a good code, and doesn't spend it.

        Raises:
            NotAllowedError: The code isn't good (any more).
            ConfigError: The name is taken or no name, or the password is too easily guessed.
        """
        code = self._good(typed)
        shown, key = _checked_name(name)
        check_password(password, unlike=(*self._known_names, shown))
        hashed = self._passwords.hash(password)
        now = self._clock()
        with self._file.writing() as database:
            row = database.execute("SELECT role FROM codes WHERE id = ? AND expires_s > ?", (code.id, now)).fetchone()
            if row is None:
                raise _bad_code()
            if database.execute("SELECT 1 FROM accounts WHERE key = ?", (key,)).fetchone():
                raise ConfigError(
                    f"Somebody is called {shown} already", means="The code is still good", do="Add a word"
                )
            database.execute("INSERT INTO accounts VALUES (?, ?, ?, ?, ?, NULL)", (key, shown, row[0], hashed, now))
            database.execute("DELETE FROM codes WHERE id = ?", (code.id,))
        return self.sessions.begin(key, hashed)

    def log_in(self, name: str, password: str) -> str:
        """Begin a session; return its token. An unknown name takes as long as a wrong password.

        Raises:
            NotAllowedError: Name or password is wrong.
        """
        key = _key(name)
        known = self._hash_of(key)
        if self._passwords.match(password, known) and known is not None:
            token = self.sessions.begin(key, known)
            if token:
                return token
        raise NotAllowedError(
            "Name or password is wrong",
            means="You are not logged in",
            do="Run `sudo sitecam login-code` on the camera: nobody has an account yet" if self.empty else "Try again",
        )

    def change_password(self, name: str, old: str, new: str) -> str:
        """Set another password and end every session of that account; return the token of a new one.

        Raises:
            NotAllowedError: The old one is wrong.
            ConfigError: The new one is too easily guessed.
        """
        key = _key(name)
        known = self._hash_of(key)
        if not self._passwords.match(old, known):
            raise NotAllowedError("The old password is wrong", means="Nothing was changed", do="Try again")
        check_password(new, unlike=(*self._known_names, name))
        hashed = self._passwords.hash(new)
        with self._file.writing() as database:
            changed = database.execute(
                "UPDATE accounts SET hash = ? WHERE key = ? AND hash = ?", (hashed, key, known)
            ).rowcount
            database.execute("DELETE FROM sessions WHERE account = ?", (key,))
        if not changed:
            raise NotAllowedError("The password was changed meanwhile", means="Nothing was changed", do="Log in again")
        return self.sessions.begin(key, hashed)

    def set_role(self, name: str, role: Role) -> None:
        """Give an account another role, and end its sessions.

        Raises:
            NotThereError: There is no such account.
            NotAllowedError: Nobody would be admin any more.
        """
        key = _key(name)
        with self._file.writing() as database:
            if role != "admin":
                _keep_an_admin(database, key)
            if not database.execute("UPDATE accounts SET role = ? WHERE key = ?", (role, key)).rowcount:
                raise _no_account(name)
            database.execute("DELETE FROM sessions WHERE account = ?", (key,))

    def remove(self, name: str) -> None:
        """Remove an account and end its sessions; what it labelled stays under its name.

        Raises:
            NotThereError: There is no such account.
            NotAllowedError: Nobody would be admin any more.
        """
        key = _key(name)
        with self._file.writing() as database:
            _keep_an_admin(database, key)
            if not database.execute("DELETE FROM accounts WHERE key = ?", (key,)).rowcount:
                raise _no_account(name)

    def _hash_of(self, key: str) -> str | None:
        with self._file.reading() as database:
            row = database.execute("SELECT hash FROM accounts WHERE key = ?", (key,)).fetchone()
        return None if row is None else cast(str, row[0])

    def _good(self, typed: str) -> Code:
        """The code, where it is one that lives. A wrong try is counted before it is looked at, and five end a code."""
        try:
            code = read_code(typed)
        except ConfigError:
            self._passwords.match(typed, None)
            raise _bad_code() from None
        with self._file.writing() as database:
            row = database.execute(
                "UPDATE codes SET tries_left = tries_left - 1 WHERE id = ? AND expires_s > ? AND tries_left > 0"
                " RETURNING hash",
                (code.id, self._clock()),
            ).fetchone()
        if not self._passwords.match(code.secret, None if row is None else row[0]):
            raise _bad_code()
        with self._file.writing() as database:
            database.execute("UPDATE codes SET tries_left = tries_left + 1 WHERE id = ?", (code.id,))
        return code


def _bad_code() -> NotAllowedError:
    return NotAllowedError(
        "That code is not good, or not any more",
        means="A code counts for a while, once, and dies after five wrong tries",
        do=_DO_NEXT,
    )


def _no_account(name: str) -> NotThereError:
    return NotThereError(f"Nobody is called {name}", means="Nothing was changed", do="Look at the list of accounts")


def _keep_an_admin(database: sqlite3.Connection, key: str) -> None:
    others = database.execute("SELECT 1 FROM accounts WHERE role = 'admin' AND key <> ?", (key,)).fetchone()
    mine = database.execute("SELECT 1 FROM accounts WHERE role = 'admin' AND key = ?", (key,)).fetchone()
    if mine and not others:
        raise NotAllowedError(
            "This is the last admin", means="Nothing was changed", do="Make somebody else admin of this camera first"
        )


def _checked_name(name: str) -> tuple[str, str]:
    """A name as it is shown, and as it is compared.

    Raises:
        ConfigError: It is no name.
    """
    shown = " ".join(unicodedata.normalize("NFKC", name).split())
    if not 1 <= len(shown) <= _NAME_CHARACTERS or not shown.isprintable() or _key(shown) in _RESERVED:
        raise ConfigError(
            "That is no name", do=f"Choose one of 1 to {_NAME_CHARACTERS} characters, as colleagues call you"
        )
    return shown, _key(shown)


def _key(name: str) -> str:
    """A name as it is compared: capitals and spaces don't tell two people apart."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
