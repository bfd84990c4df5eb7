"""Room that is kept for hard times: on a disk that is full to the last byte not even a deletion could be written."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)

SIZE_BYTES = 2_000_000
_NAME = "reserve"
_PLENTY = 3  # times its size must be free before it is set aside


def keep_reserve(root: Path) -> None:
    """Set some room aside, where there is plenty and none is set aside. Nothing is written into it."""
    path = root / _NAME
    if path.exists() or shutil.disk_usage(root).free < _PLENTY * SIZE_BYTES:
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno != errno.EOPNOTSUPP:
            logger.warning("No room was set aside for hard times: %s", error)


def spend_reserve(root: Path) -> bool:
    """Give the room back, if the disk is full; False where there was none, or it isn't."""
    path = root / _NAME
    if not path.exists() or shutil.disk_usage(root).free > SIZE_BYTES:
        return False
    path.unlink(missing_ok=True)
    logger.warning("The disk is full: the room that was set aside is used, so that something can be deleted")
    return True
