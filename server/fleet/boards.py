"""A camera's board in words: what it is, and what the model takes on it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from appliance.board import Board


def board_view(board: Board | None) -> dict[str, Any] | None:
    """For the page: every figure, and them in words; None of a camera that told none."""
    return None if board is None else {**asdict(board), "name": board_name(board), "takes": board_takes(board)}


def board_name(board: Board) -> str:
    """ "Raspberry Pi 4 Model B Rev 1.5, 4 cores, 3.7 GB"."""
    parts = [board.name]
    if board.cores is not None:
        parts.append("1 core" if board.cores == 1 else f"{board.cores} cores")
    if board.memory_bytes is not None:
        parts.append(size(board.memory_bytes))
    return ", ".join(parts)


def board_takes(board: Board) -> str:
    """ "24 ms for a picture on 2 threads, 61 MB of memory, 8.9 MB on its disk"."""
    parts = []
    if board.inference_ms is not None:
        threads = "" if board.threads == 1 else f" on {board.threads} threads"
        parts.append(f"{milliseconds(board.inference_ms)} for a picture{threads}")
    if board.impulse_bytes is not None:
        parts.append(f"{size(board.impulse_bytes)} of memory")
    if parts and board.file_bytes is not None:
        parts.append(f"{size(board.file_bytes)} on its disk")
    return ", ".join(parts) or "The model did not run when the night asked."


def milliseconds(value: float) -> str:
    """ "24 ms"; below ten with a decimal."""
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"  # two digits either way


def size(value: int) -> str:
    """ "3.7 GB", "61 MB", "8.9 MB"; a MB is 2 ** 20 bytes."""
    if value >= 2**30:
        return f"{value / 2**30:.1f} GB"
    mega = value / 2**20
    return f"{mega:.0f} MB" if mega >= 10 else f"{mega:.1f} MB"
