"""Are the settings of the neighbours usable? Found out before anything starts, not at the first event."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from appliance.config import MqttSettings, Settings, WebhookSettings
from appliance.errors import ConfigError

_NONE = Path()
_SHORTEST_SECRET = 16


def check(settings: Settings) -> None:
    """Check ``[mqtt]`` and ``[webhook]``, and the files that they name.

    Raises:
        ConfigError: An address, a topic or a file can't be used.
    """
    if settings.mqtt.host:
        _check_mqtt(settings.mqtt)
    if settings.webhook.url:
        _check_webhook(settings.webhook)


def secret(path: Path, key: str) -> str:
    """The one line in a file that only its owner may read.

    Args:
        path: The file.
        key: The setting that names it.

    Raises:
        ConfigError: It is missing, empty, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{key}: {path} can't be read ({error})",
            means="Neighbours are not told of events",
            do="Make the file, with the secret as its only line, readable by the service's user only",
        ) from error
    if mode & 0o077:
        raise ConfigError(
            f"{key}: {path} may be read by other users of this machine (mode {mode & 0o777:03o})",
            means="Whoever reads it can speak in this camera's name",
            do=f"Run: chmod 600 {path}; and make another secret if the machine has other users",
        )
    if not content or "\n" in content:
        raise ConfigError(f"{key}: {path} must hold one line: the secret", do="Write it again")
    return content


def tls(ca: Path, key: str) -> ssl.SSLContext:
    """A client's TLS context that checks the other side's certificate and name.

    Args:
        ca: The authority it must come from, a PEM file; the system's where it is left out.
        key: The setting that names it.

    Raises:
        ConfigError: The file can't be used.
    """
    try:
        return ssl.create_default_context(cafile=None if ca == _NONE else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{key}: {ca} can't be used ({error})",
            means="Without it nobody can tell the right server from a wrong one",
            do="Give the PEM file of the authority that made the server's certificate",
        ) from error


def _check_mqtt(mqtt: MqttSettings) -> None:
    if any(mark in mqtt.host for mark in "/: \t\r\n") and not _is_address(mqtt.host):
        raise ConfigError(f"mqtt.host {mqtt.host!r} is no host name or address", do="Leave scheme and port out of it")
    for key, topic in (("mqtt.topic", mqtt.topic), ("mqtt.discovery", mqtt.discovery)):
        empty = not topic and key == "mqtt.topic"
        if empty or any(mark in topic for mark in "+#\0") or topic != topic.strip("/ "):
            raise ConfigError(f"{key} {topic!r} can't be used", do='Write it like "sitecam": no +, #, or / at its ends')
    if mqtt.tls:
        tls(mqtt.ca, "mqtt.ca")
    if mqtt.password_file != _NONE:
        if not mqtt.user:
            raise ConfigError("mqtt.password_file is set, mqtt.user is not", do="Set both, or neither")
        if not mqtt.tls and not _is_loopback(mqtt.host):
            raise ConfigError(
                "mqtt has a password but no TLS",
                means="The password would cross the network for everybody to read",
                do="Set mqtt.tls = true, and mqtt.ca to the broker's authority",
            )
        secret(mqtt.password_file, "mqtt.password_file")


def _check_webhook(webhook: WebhookSettings) -> None:
    try:
        parts = urlsplit(webhook.url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"webhook.url {webhook.url!r} is no address ({error})", do="Correct it") from error
    printable = webhook.url.isascii() and webhook.url.isprintable() and " " not in webhook.url
    if parts.scheme not in ("https", "http") or not host or not printable or parts.fragment:
        raise ConfigError(f"webhook.url {webhook.url!r} can't be used", do='Write it like "https://host/path"')
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "webhook.url has a name or password in it",
            means="It would stand in logs",
            do="Leave it out; every request is signed with webhook.secret_file instead",
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(
            f"webhook.url {webhook.url!r} is not encrypted",
            means="Events would cross the network for everybody to read",
            do="Use https://; http:// is for this machine itself only",
        )
    if webhook.secret_file == _NONE:
        raise ConfigError(
            "webhook.url is set, webhook.secret_file is not",
            means="Without a signature whoever gets the requests can't tell that they are this camera's",
            do="Run: (umask 077; openssl rand -hex 32 > webhook.secret), and name that file",
        )
    if len(secret(webhook.secret_file, "webhook.secret_file")) < _SHORTEST_SECRET:
        raise ConfigError(
            f"webhook.secret_file: the secret is shorter than {_SHORTEST_SECRET} characters",
            means="It could be guessed",
            do="Run: (umask 077; openssl rand -hex 32 > webhook.secret)",
        )
    if parts.scheme == "https":
        tls(webhook.ca, "webhook.ca")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
