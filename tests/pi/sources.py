"""What a technician has unpacked on a machine: this project, as it stands in the working tree."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
HERE = "/root/sitecam"  # where it is unpacked inside


def copy_sources(folder: Path, *, tests: bool = False) -> str:
    """Copy what git knows or would know; return a digest of it.

    Args:
        folder: Made here.
        tests: The tests too.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    digest = hashlib.sha256()
    for name in sorted(set(filter(None, listed.split("\0")))):
        source = PROJECT / name
        if not source.is_file() or (name.startswith(("tests/", ".ci/")) and not tests):
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        digest.update(f"{name}\0".encode() + source.read_bytes())
    return digest.hexdigest()[:12]
