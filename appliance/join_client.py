"""Asks the fleet's server, over HTTPS, at the door where cameras are let in."""

from __future__ import annotations

import http.client
import json
import ssl
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from appliance.errors import CertificateError, ConfigError, SitecamError
from appliance.files import written_atomically
from appliance.join_code import PREFIX, address

Field = TypeVar("Field")

_TIMEOUT_S = 30.0
_MAX_JSON_BYTES = 256 * 1024
_MAX_BUNDLE_BYTES = 200 * 2**20
_STATUS_WORDS = {
    429: "it has had too many questions from this address; wait a minute",
    502: "its proxy answers, and the fleet page behind it does not",
    504: "its proxy answers, and the fleet page behind it is silent",
}


class JoinServer:
    """The fleet's server, one connection per question.

    Args:
        host: Its name or address.
        port: TCP.
        ca: PEM; None before it is known, when whatever answers is talked to and nothing that it says is believed
            without its proof.
        means: What follows where it can't be reached, in a sentence.
    """

    def __init__(self, host: str, port: int, ca: bytes | None, *, means: str = "This camera was not enrolled") -> None:
        self._where, self._means = address(host, port), means
        if ca is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context(cadata=ca.decode())  # that authority, and no other
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)

    def ask(self, path: str, body: object = None, *, token: str = "") -> dict[str, Any]:
        """Send a message, or none, and read the answer.

        Raises:
            ConfigError: Nothing answers, or not as a server of ours.
            CertificateError: Its certificate is not by the fleet's authority; or it refuses, and why.
        """
        with self._answer(path, body, token) as answer:
            data = self._read(answer, _MAX_JSON_BYTES + 1)
        try:
            message = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._not_ours(f"it says {data[:40]!r}, which is no JSON") from error
        if not isinstance(message, dict) or len(data) > _MAX_JSON_BYTES:
            raise self._not_ours("its answer is not one of the join protocol")
        return message

    def fetch(self, path: str, file: Path, *, token: str) -> None:
        """Write an answer to a file, whole or not at all.

        Raises:
            ConfigError: As for :meth:`ask`.
            CertificateError: Likewise.
            OSError: The disk refused.
        """
        with self._answer(path, None, token) as answer, written_atomically(file) as out:
            due = left = answer.length or 0
            while left and (data := self._read(answer, min(left, 2**16))):
                out.write(data)
                left -= len(data)
            if left or not 0 < due <= _MAX_BUNDLE_BYTES:
                raise self._not_ours(f"the bundle ended {left} bytes early, or has no length")

    @contextmanager
    def _answer(self, path: str, body: object, token: str) -> Iterator[http.client.HTTPResponse]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request("GET" if data is None else "POST", PREFIX + path, data, headers)
            answer = self._connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise self._refusal(answer.status, answer.read(_MAX_JSON_BYTES))
        except ssl.SSLCertVerificationError as error:
            self._connection.close()
            raise CertificateError(
                f"The certificate of {self._where} is not good ({error.verify_message})",
                means="It is another server, another name of it, or the clock is wrong; nothing was sent",
                do="Use the address exactly as the server shows it, and check this camera's clock",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._unreachable(error) from error
        except BaseException:
            self._connection.close()
            raise
        try:
            yield answer
        finally:
            self._connection.close()

    def _read(self, answer: http.client.HTTPResponse, count: int) -> bytes:
        try:
            return answer.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _refusal(self, status: int, body: bytes) -> SitecamError:
        try:
            said = json.loads(body)["error"]
            what, means, do = (str(said[part]) for part in ("what", "means", "do"))
        except (ValueError, KeyError, TypeError, RecursionError):
            if status in _STATUS_WORDS:
                return self._unreachable(_STATUS_WORDS[status])
            return self._not_ours(f"HTTP status {status}")
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            return ConfigError(f"The server can't answer now: {what}", means=means, do=do)
        return CertificateError(f"The server refused: {what}", means=means, do=do)

    def _unreachable(self, error: object) -> ConfigError:
        return ConfigError(
            f"The server {self._where} can't be reached ({error or type(error).__name__})",
            means=self._means,
            do="Check address, network and that the fleet page runs; then try again",
        )

    def _not_ours(self, why: str) -> ConfigError:
        return ConfigError(
            f"What answers at {self._where} is not a Sitecam server: {why}",
            means=self._means,
            do="Use the address exactly as the server shows it",
        )


def field(answer: dict[str, Any], name: str, kind: type[Field]) -> Field:
    """A part of an answer.

    Raises:
        ConfigError: It isn't there, or of another type.
    """
    value = answer.get(name)
    if not isinstance(value, kind):
        raise ConfigError(f"The server's answer lacks {name}", means="It is of another release, or no server of ours")
    return value


def bytes_field(answer: dict[str, Any], name: str) -> bytes:
    """Likewise, from base64."""
    try:
        return b64decode(field(answer, name, str), validate=True)
    except ValueError as error:
        raise ConfigError(f"The server's {name} is not base64", means="It is no server of ours") from error
