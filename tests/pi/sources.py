"""What a technician has unpacked on a machine: this project, as it stands in the working tree."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
HERE = "/root/sitecam"  # where it is unpacked inside


def copy_sources(folder: Path, *, tests: bool = False) -> None:
    """Copy what git knows or would know.

    Args:
        folder: Made here.
        tests: The tests too.
    """
    for name in _names(tests=tests):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target)


def digest_of_sources() -> str:
    """Twelve characters that change with any file of the project, tests apart."""
    digest = hashlib.sha256()
    for name in _names(tests=False):
        digest.update(f"{name}\0".encode() + (PROJECT / name).read_bytes())
    return digest.hexdigest()[:12]


def _names(*, tests: bool) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = sorted(set(filter(None, listed.split("\0"))))
    wanted = [name for name in names if tests or not name.startswith(("tests/", ".ci/"))]
    return [name for name in wanted if (PROJECT / name).is_file()]
