"""The API key of a project in Studio, from a file that nobody else can read."""

from __future__ import annotations

from pathlib import Path

from appliance.errors import ConfigError
from server.config import StudioSettings


def read_key(settings: StudioSettings) -> str:
    """The key.

    Raises:
        ConfigError: None is set, the file can't be read or is empty, or others may read it.
    """
    path = settings.key_file
    if path == Path():
        raise ConfigError(
            "Studio is off",
            means="studio.key_file is not set",
            do="Put the project's API key (Studio, Dashboard, Keys) into a file of mode 600 and name it there",
        )
    try:
        mode, key = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The key file {path} can't be read ({error})", do="Correct studio.key_file") from error
    if mode & 0o077:
        raise ConfigError(
            f"Others may read the key file {path}",
            means="Whoever has the key can change the project; Studio was not asked",
            do=f"chmod 600 {path}",
        )
    if not key or any(letter.isspace() or not letter.isprintable() for letter in key):
        raise ConfigError(f"{path} holds no API key", do="Put the key into it, and nothing else")
    return key
