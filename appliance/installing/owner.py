"""Becomes a role's user while its files are touched: root must not follow where a service could have put a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def owner_of(folder: Path) -> Iterator[None]:
    """Have the rights of the folder's owner and of nobody else, and make files that belong to it.

    Only root can become somebody else; whoever else runs this stays who they are. One thread at a time.

    Args:
        folder: In a folder that only root can change, so that its owner can be trusted to be the right one.

    Raises:
        OSError: There is no such folder.
    """
    owner = folder.lstat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
