"""Passwords: what they must be, and how they are kept.

Argon2id (RFC 9106) with 19 MiB, 2 passes and 1 lane: what OWASP's cheat sheet on password storage asks for at least.
RFC 9106's own second choice, 64 MiB, is an eighth of a 512 MB Pi, which runs a camera and a model beside it. One hash
at a time, so that many tries at once cost no more memory than one.
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections.abc import Collection

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from appliance.errors import ConfigError

LEAST_CHARACTERS = 10
MOST_CHARACTERS = 200
MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1


class Passwords:
    """Makes hashes and compares with them.

    Args:
        hasher: Other costs are for tests only.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._one_at_a_time = threading.Lock()
        self._nobodys: str | None = None

    def hash(self, password: str) -> str:
        """A password as it is kept: costs, salt and hash in one line."""
        with self._one_at_a_time:
            return self._hasher.hash(_plain(password))

    def match(self, password: str, known: str | None) -> bool:
        """Whether it is the one that was kept; False where none was. Takes the same time either way."""
        with self._one_at_a_time:
            if self._nobodys is None:
                self._nobodys = self._hasher.hash(secrets.token_hex())
            try:
                self._hasher.verify(known or self._nobodys, _plain(password[:MOST_CHARACTERS]))
            except (VerificationError, InvalidHashError):
                return False
            return known is not None


def check_password(password: str, *, unlike: Collection[str]) -> None:
    """Refuse what is guessed first.

    Args:
        password: As typed.
        unlike: Names that anybody knows: the camera's, the fleet's, the account's own.

    Raises:
        ConfigError: It is too short, too long, or one of those names, with or without numbers.
    """
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise ConfigError(
            f"That password has {len(password)} characters",
            means=f"It must have {LEAST_CHARACTERS} to {MOST_CHARACTERS}",
            do="Choose another; four random words do well",
        )
    letters = _letters(password)
    if len(set(password)) < 4 or any(letters and letters == _letters(name) for name in unlike):
        raise ConfigError(
            "That password is among the first that anybody would try",
            means="A name with numbers, or a few characters again and again, is no secret",
            do="Choose another; four random words do well",
        )


def _plain(password: str) -> str:
    """The same text whatever keyboard typed it."""
    return unicodedata.normalize("NFKC", password)


def _letters(text: str) -> str:
    return "".join(character for character in _plain(text).casefold() if character.isalpha())
