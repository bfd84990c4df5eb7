"""The installer's exit codes, from sysexits.h where it has one that fits."""

from __future__ import annotations

from typing import Final

from appliance.errors import InstallError

FAILED: Final = 1
WRONG_CALL: Final = 64
BAD_ARCHIVE: Final = 65
REFUSED: Final = 69
WENT_BACK: Final = 75
NOT_ROOT: Final = 77


def failure(code: int, what: str, *, means: str = "", do: str = "") -> InstallError:
    """An error that ends the installer with ``code``."""
    error = InstallError(what, means=means, do=do)
    error.exit_code = code
    return error
