"""One run of the installer: the machine's folders, the way commands are run, and what is recorded."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from appliance.installing.layout import Layout
from appliance.installing.placing import Places
from appliance.installing.record import Record, read_record, write_record
from appliance.installing.run import Runner

CODE = Path(__file__).resolve().parents[2]  # the folder that this very code lies in

Fetch = Callable[[str], int | None]


def fetch(url: str) -> int | None:
    """The HTTP status of a page on this machine, whatever its certificate; None where nobody answers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # loopback: the question is whether it answers
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310  # https or loopback http
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return None


@dataclass
class Installation:
    """What all steps share.

    Attributes:
        layout: The machine's folders.
        runner: Runs commands.
        places: Writes files.
        source: The code that is to be installed: a folder with ``appliance``, ``systemd``, ``locks`` and so on.
        fetch: Asks a page on this machine.
        pause: Waits, seconds.
        record: What was installed, as far as this run has come.
    """

    layout: Layout
    runner: Runner
    places: Places
    source: Path = CODE
    fetch: Fetch = fetch
    pause: Callable[[float], None] = time.sleep
    record: Record = field(default_factory=Record)

    def load(self) -> None:
        """Read what was installed.

        Raises:
            InstallError: It can't be read.
        """
        self.record = read_record(self.layout)

    def save(self) -> None:
        """Write what was installed so far, so that an interrupted run leaves nothing unrecorded for long."""
        if not self.runner.dry_run:
            self.places.folder(self.layout.opt)
            write_record(self.layout, self.record)

    def own(self, path: Path, text: str) -> bool:
        """Have a file of ours outside ``/opt/sitecam``; return whether it was changed."""
        self.record = self.record.with_files({path})
        return self.places.file(path, text)

    def own_link(self, path: Path, target: Path) -> bool:
        """Likewise a link."""
        self.record = self.record.with_files({path})
        return self.places.link(path, target)

    def disown(self, path: Path) -> bool:
        """Have no such file any longer; return whether there was one."""
        self.record = self.record.without_files({path})
        return self.places.remove(path)
