"""How long to wait between two tries: twice as long each time, up to a limit, and never all at the same moment."""

from __future__ import annotations

import random


class Backoff:
    """The waits between tries that fail, one after another.

    Args:
        first_s: About the first of them.
        most_s: They grow no longer than this.
    """

    def __init__(self, *, first_s: float = 1.0, most_s: float = 300.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._failed = 0

    def next_s(self) -> float:
        """How long to wait now: between half and all of the present step, so that many cameras don't come at once."""
        step_s = min(self._most_s, self._first_s * 2.0 ** min(self._failed, 30))
        self._failed += 1
        return step_s * random.uniform(0.5, 1.0)  # noqa: S311  # spreads tries, keeps no secret

    def reset(self) -> None:
        """A try went well."""
        self._failed = 0
