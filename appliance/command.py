"""What all our commands share: settings are loaded, errors become one readable line and an exit code."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from appliance.errors import SitecamError

Settings = TypeVar("Settings")


def run_command(
    name: str,
    load: Callable[[Path], Settings],
    run: Callable[[Settings, argparse.Namespace], int],
    options: argparse.Namespace,
) -> int:
    """Run a command.

    Args:
        name: The program's, for its messages.
        load: Reads the settings file that ``options.config`` names.
        run: Does the work; returns the exit code.
        options: The command line, parsed.

    Returns:
        What ``run`` returned; an error's own code, 1 or 2, where one was raised.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        return run(load(options.config), options)
    except SitecamError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{name}: {error}. The disk or the network refused; nothing stored was lost.", file=sys.stderr)
        return 1
