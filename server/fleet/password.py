"""The page's one password: kept as a salted scrypt hash, never as itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
from pathlib import Path

from appliance.errors import ConfigError, StoreError
from appliance.files import write_atomically

LEAST_CHARACTERS = 10
_MOST_CHARACTERS = 1000
_COST = {"n": 2**15, "r": 8, "p": 1}  # 32 MB and a tenth of a second; OWASP's advice for scrypt begins here
_MEMORY_BYTES = 64 * 1024 * 1024
_FILE = "page-password.json"


class Password:
    """The password in its file.

    Args:
        keys: The folder of the server's private keys; exists.
    """

    def __init__(self, keys: Path) -> None:
        self._path = keys / _FILE
        self._one_at_a_time = threading.Lock()  # many tries at once must not fill the memory

    def mark(self) -> str:
        """Names the password that is set now: another one has another mark. Empty where none is set.

        Raises:
            StoreError: The file can't be read.
        """
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._unreadable(error) from error

    def put(self, password: str) -> None:
        """Set the password.

        Raises:
            ConfigError: It is too short, or longer than anybody types.
            OSError: The disk refused; the old one stands.
        """
        if not LEAST_CHARACTERS <= len(password) <= _MOST_CHARACTERS:
            raise ConfigError(
                f"That password has {len(password)} characters",
                means=f"It must have {LEAST_CHARACTERS} to {_MOST_CHARACTERS}; the old one, if any, stands",
                do="Choose another; four random words do well",
            )
        salt = secrets.token_bytes(16)
        record = {"salt": salt.hex(), "hash": _hash(password, salt, **_COST).hex(), **_COST}
        write_atomically(self._path, json.dumps(record).encode(), mode=0o600)

    def matches(self, password: str) -> bool:
        """Whether it is the one that is set; False where none is. Takes the same time either way.

        Raises:
            StoreError: The file can't be read.
        """
        try:
            record = json.loads(self._path.read_bytes())
            salt, known = bytes.fromhex(record["salt"]), bytes.fromhex(record["hash"])
            cost = {name: int(record[name]) for name in _COST}
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from error
        with self._one_at_a_time:
            return hmac.compare_digest(_hash(password[:_MOST_CHARACTERS], salt, **cost), known)

    def _unreadable(self, error: Exception) -> StoreError:
        return StoreError(
            f"The page's password can't be read from {self._path} ({error})",
            means="Nobody can log in",
            do="Set it again with sitecam-fleet password",
        )


def _hash(password: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_BYTES)
