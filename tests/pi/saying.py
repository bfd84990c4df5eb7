"""What a run of hours says: every line with the seconds since it began, and a verdict that counts what did not hold."""

from __future__ import annotations

import sys
import time


class Story:
    """Tells a scenario, and remembers whether everything held."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self.failures: list[str] = []
        self.held = 0

    def say(self, text: str) -> None:
        """Tell something."""
        at_s = time.monotonic() - self._started_s
        for line in text.splitlines() or [""]:
            print(f"{at_s:7.1f} s  {line}", flush=True)

    def quote(self, text: str, *, last: int = 0) -> None:
        """Show a program's own words, indented; only so many of the last lines where that is given."""
        lines = text.rstrip().splitlines()
        for line in lines[-last:] if last else lines:
            print(f"           | {line}", flush=True)

    def check(self, holds: bool, what: str, detail: str = "") -> bool:
        """Note whether something held; ``detail`` is shown where it did not."""
        self.say(f"{'ok   ' if holds else 'FAULT'} {what}")
        if holds:
            self.held += 1
        else:
            self.failures.append(what)
            self.quote(detail)
        return holds

    def end(self) -> int:
        """Tell the verdict; return the exit code."""
        self.say(f"{self.held} held, {len(self.failures)} did not.")
        for failure in self.failures:
            print(f"           FAULT {failure}", file=sys.stderr)
        return 1 if self.failures or not self.held else 0
