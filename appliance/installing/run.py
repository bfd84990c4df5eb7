"""Runs every command that changes the machine: one line on the terminal, everything in the log, nothing in a shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from appliance.errors import InstallError

_DEADLINE_S = 3600.0  # the longest step, TensorFlow over a slow line; a step without an end would look like work


@dataclass(frozen=True)
class Done:
    """A command that ended.

    Attributes:
        status: Its exit status; 127 where there is no such program, 124 where its time was over.
        output: What it wrote to standard output.
        errors: What it wrote to standard error.
    """

    status: int
    output: str = ""
    errors: str = ""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0


class Runner(Protocol):
    """How commands are run. With ``dry_run`` nothing may change: not by ``run``, and not by whoever holds it."""

    dry_run: bool

    def run(
        self,
        command: Sequence[str],
        *,
        say: str = "",
        given: str | None = None,
        environment: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        check: bool = True,
        live: bool = False,
        deadline_s: float = _DEADLINE_S,
    ) -> Done:
        """Run a command that changes something; with ``dry_run`` only say so.

        Args:
            command: Program and arguments; no shell sees them.
            say: What it is for, in a few words for the terminal; empty where nobody needs to know.
            given: Its standard input, which is not logged; None for none.
            environment: Variables beside those that we have.
            secrets: Texts that must not stand in the log, in command or output.
            check: Whether a status other than 0 is an error.
                live: Show what it says at once: a person waits for it, or has to do something about it. It is given
                nothing.
            deadline_s: It is ended after that.

        Raises:
            InstallError: It failed, and ``check`` is set.
        """
        ...

    def ask(self, command: Sequence[str], *, deadline_s: float = 30.0) -> Done:
        """Run a command that only looks, with ``dry_run`` too; its failure is an answer."""
        ...

    def say(self, text: str) -> None:
        """Tell the person at the terminal, and the log."""
        ...

    def show(self, text: str) -> None:
        """Tell the person at the terminal only: what is secret is not logged."""
        ...

    def note(self, text: str) -> None:
        """Tell the log only."""
        ...


class SystemRunner:
    """The real one.

    Args:
        log: Appended to, mode 0600; None to keep no log.
        dry_run: Say what would be done, and do nothing.
    """

    def __init__(self, log: Path | None, *, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self._log = log
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        command: Sequence[str],
        *,
        say: str = "",
        given: str | None = None,
        environment: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        check: bool = True,
        live: bool = False,
        deadline_s: float = _DEADLINE_S,
    ) -> Done:
        """See :class:`Runner`."""
        shown = _hide(shlex.join(command), secrets)
        if self.dry_run:
            self.say(f"would run: {shown}{f'   ({say})' if say else ''}")
            return Done(0)
        if say:
            self.say(f"{say} ...")
        started_s = time.monotonic()
        done = _show(command, environment, deadline_s) if live else _execute(command, given, environment, deadline_s)
        took_s = time.monotonic() - started_s
        self.note(f"$ {shown}\n{_hide(done.output + done.errors, secrets).rstrip()}\n-> {done.status}, {took_s:.1f} s")
        if check and not done.ok:
            last = _hide(done.errors.strip() or done.output.strip(), secrets).splitlines()[-5:]
            raise InstallError(
                f"{say or command[0]} failed with status {done.status}: {' / '.join(last) or 'it said nothing'}",
                means=f"The command was: {shown}",
                do="The log has all that it said. The same command goes on from here once the cause is gone",
            )
        return done

    def ask(self, command: Sequence[str], *, deadline_s: float = 30.0) -> Done:
        """See :class:`Runner`."""
        done = _execute(command, None, None, deadline_s)
        self.note(f"? {shlex.join(command)} -> {done.status}")
        return done

    def say(self, text: str) -> None:
        """See :class:`Runner`."""
        print(text, flush=True)
        self.note(text)

    def show(self, text: str) -> None:
        """See :class:`Runner`."""
        print(text, flush=True)

    def note(self, text: str) -> None:
        """See :class:`Runner`."""
        if self._log is None:
            return
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="replace") as file:
            os.fchmod(descriptor, 0o600)
            file.writelines(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}\n" for line in text.splitlines())


def _execute(
    command: Sequence[str], given: str | None, environment: Mapping[str, str] | None, deadline_s: float
) -> Done:
    sys.stdout.flush()
    try:
        ended = subprocess.run(
            list(command),
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            env=_environment(environment),
            timeout=deadline_s,
            check=False,
        )
    except FileNotFoundError:
        return Done(127, errors=f"{command[0]} isn't on this machine")
    except OSError as error:
        return Done(126, errors=f"{command[0]} can't be run: {error.strerror}")
    except subprocess.TimeoutExpired:
        return Done(124, errors=f"not done after {deadline_s:g} s")
    return Done(ended.returncode, ended.stdout, ended.stderr)


def _show(command: Sequence[str], environment: Mapping[str, str] | None, deadline_s: float) -> Done:
    """Like :func:`_execute`, with every line shown as it comes; errors stand among the output."""
    said = []
    end_s = time.monotonic() + deadline_s
    try:
        with subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(environment),
        ) as process:
            for line in process.stdout or ():
                print(f"  {line}", end="", flush=True)
                said.append(line)
                if time.monotonic() > end_s:
                    process.terminate()
    except FileNotFoundError:
        return Done(127, errors=f"{command[0]} isn't on this machine")
    return Done(process.returncode, "".join(said))


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    # Where this installer's own code lies is no business of what it starts: another release would be tried with it.
    ours = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**ours, "LC_ALL": "C.UTF-8", **(more or {})}


def _hide(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "********")
    return text
