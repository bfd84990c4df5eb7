"""Writes well-behaved .eim files shaped like Edge Impulse's own; see eim_program.py for what runs."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

from tests.fakes import eim_program

# shared-memory: as built since August 2025; json: its shared memory failed; old: as before 2024; grey: one channel.
SHAPES = ("shared-memory", "json", "old", "grey")
LARGE = "large"  # 240 x 240 and no shared memory: half a megabyte of JSON a picture
NOT_OURS = {"sound": "sound", "objects": "object detection"}  # and the word by which an error should name it


def write_shaped(path: Path, shape: str, *, fault: str = "none") -> Path:
    """Write an executable that behaves like that; return its path."""
    command = [sys.executable, "-I", "-S", eim_program.__file__, shape, fault, token_of(path)]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    return path


def token_of(path: Path) -> str:
    """What the names of its shared memory begin with, after ``shm-``."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]
