"""Waits for something that another thread or process brings about, and no longer than a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(reached: Callable[[], T], within_s: float = 30) -> T:
    """What ``reached`` gives as soon as that is something.

    Raises:
        AssertionError: It was nothing for all that time.
    """
    ends = time.monotonic() + within_s
    while not (found := reached()):
        assert time.monotonic() < ends, f"it was not reached within {within_s:g} s"
        time.sleep(0.01)
    return found
