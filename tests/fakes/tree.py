"""A folder's whole content, to see that nothing changed."""

from __future__ import annotations

from pathlib import Path


def tree_of(root: Path) -> dict[str, bytes | None]:
    """Every path below ``root``, with its content; None for a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }
