"""Posts every change of an event to an HTTP server, signed, until the server says that it has it.

The headers of a request::

    Sitecam-Delivery: 32 hex digits, the same at every try of a message
    Sitecam-Signature: t=UNIX SECONDS,v1=HEX OF HMAC-SHA256(secret, "UNIX SECONDS." + body)

Any answer of 2xx ends a message. 400, 413, 415 and 422 say that the server will never want it: it is dropped, so that
it can't hold up those behind it. Everything else is tried again, ever more rarely, and as late as a Retry-After says.
Redirects are not followed: who could make one could send this site's events elsewhere.

The client is the standard library's: one request at a time, on a connection of its own, whose deadline must hold for
name, handshake, answer and all, which clients with a time-out per read don't promise.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import hmac
import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from appliance.config import WebhookSettings
from appliance.notify.backoff import Backoff
from appliance.notify.outbox import Message, Outbox
from appliance.notify.settings_check import secret, tls

logger = logging.getLogger(__name__)

NAME = "webhook"

_UNWANTED = (400, 413, 415, 422)
_LONGEST_WAIT_S = 3600.0  # whatever a Retry-After says
_LOOK_EVERY_S = 60.0  # for what has become too old


def signature(secret_key: bytes, at_s: int, body: bytes) -> str:
    """The value of ``Sitecam-Signature``."""
    digest = hmac.new(secret_key, f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


@dataclass(frozen=True)
class Answer:
    """What came of a try.

    Attributes:
        taken: The server has it.
        unwanted: The server will never want it.
        why: What went wrong, for a person.
        wait_s: The server asked for so long a pause.
    """

    taken: bool = False
    unwanted: bool = False
    why: str = ""
    wait_s: float = 0.0


class Webhook:
    """Empties the outbox into an HTTP server, from a thread of its own.

    Args:
        settings: Checked already.
        outbox: Where messages wait.
        backoff: The waits between tries.

    Attributes:
        fault: Why the server takes nothing now, for a person; None while it does.

    Raises:
        ConfigError: The files that the settings name can't be used any longer.
    """

    def __init__(self, settings: WebhookSettings, outbox: Outbox, *, backoff: Backoff | None = None) -> None:
        self._settings = settings
        self._outbox = outbox
        self._backoff = backoff or Backoff()
        self._secret = secret(settings.secret_file, "webhook.secret_file").encode()
        self._url = urlsplit(settings.url)
        self._tls = tls(settings.ca, "webhook.ca") if self._url.scheme == "https" else None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._late = False
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self.fault: str | None = None
        self.sent = 0

    def start(self) -> None:
        """Send what waits."""
        self._thread.start()

    def stop(self, *, deadline_s: float = 5.0) -> None:
        """End; a try that is under way is cut short and made again at the next start."""
        self._stopping.set()
        self._wake.set()
        self._cut()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def wake(self) -> None:
        """A message has come."""
        self._wake.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                wait_s = self._step()
            except Exception:
                logger.exception("The webhook's thread made a mistake, and goes on")
                wait_s = _LOOK_EVERY_S
            if wait_s:
                self._stopping.wait(wait_s)

    def _step(self) -> float:
        """Try the oldest message; return how long to wait before the next try."""
        self._wake.clear()
        if late := self._outbox.drop_older(NAME, self._settings.give_up_after_s):
            logger.error("%d messages for the webhook were given up: they could not be delivered in time", late)
        message = self._outbox.next(NAME)
        if message is None:
            self._wake.wait(_LOOK_EVERY_S)
            return 0.0
        answer = self.send(message)
        if self._stopping.is_set() and not answer.taken:
            return 0.0
        if answer.taken or answer.unwanted:
            self._outbox.done(message, dropped=answer.unwanted)
            self._backoff.reset()
            self.sent += answer.taken
            self._say(answer.why or None)
            return 0.0
        self._say(answer.why)
        return max(self._backoff.next_s(), min(answer.wait_s, _LONGEST_WAIT_S))

    def send(self, message: Message) -> Answer:
        """Try once."""
        try:
            with self._deadline():
                return self._post(message)
        except ssl.SSLCertVerificationError as error:
            return Answer(why=f"The certificate of {self._url.hostname} is not trusted ({error.verify_message}).")
        except TimeoutError:
            return Answer(why=f"{self._url.hostname} did not answer within {self._settings.deadline_s:g} s.")
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # AttributeError, ValueError: what http.client raises when its socket is closed under its hands
            if self._late:
                return Answer(why=f"{self._url.hostname} did not answer within {self._settings.deadline_s:g} s.")
            return Answer(why=f"{self._url.hostname} can't be reached ({error or type(error).__name__}).")

    def _post(self, message: Message) -> Answer:
        at_s = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Sitecam",
            "Sitecam-Delivery": message.delivery,
            "Sitecam-Signature": signature(self._secret, at_s, message.body),
            "Connection": "close",
        }
        connection = self._connection = self._connect()
        connection.connect()
        if self._late:  # a socket can't be cut from outside while its handshake is under way
            raise TimeoutError
        path = self._url.path or "/"
        connection.request("POST", f"{path}?{self._url.query}" if self._url.query else path, message.body, headers)
        response = connection.getresponse()
        if self._late:  # cut short: what looks like the end of the headers is none
            raise TimeoutError
        return _answer(response)

    def _connect(self) -> http.client.HTTPConnection:
        host, timeout_s = str(self._url.hostname), self._settings.deadline_s
        if self._tls is None:
            return http.client.HTTPConnection(host, self._url.port, timeout=timeout_s)
        return http.client.HTTPSConnection(host, self._url.port, timeout=timeout_s, context=self._tls)

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        """Cut the connection when the time is up, however busily the other side sends a byte now and then."""
        self._late = False

        def late() -> None:
            self._late = True
            self._cut()

        timer = threading.Timer(self._settings.deadline_s, late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _cut(self) -> None:
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):  # it is closed already, which is what we want
                sock.shutdown(socket.SHUT_RDWR)

    def _say(self, fault: str | None) -> None:
        if fault and fault != self.fault:
            logger.warning("The webhook: %s", fault)
        self.fault = fault


def _answer(response: http.client.HTTPResponse, clock: Callable[[], float] = time.time) -> Answer:
    code = response.status
    if 200 <= code < 300:
        return Answer(taken=True)
    why = f"The server answered {code} {response.reason}".strip() + "."
    if code in _UNWANTED:
        return Answer(unwanted=True, why=f"{why} A message was dropped.")
    if 300 <= code < 400:
        why = f"{why} Redirects are not followed: put the new address into webhook.url."
    return Answer(why=why, wait_s=_pause_s(response.getheader("Retry-After"), clock()))


def _pause_s(header: str | None, now_s: float) -> float:
    """What a Retry-After asks for: seconds, or a date (RFC 9110, section 10.2.3)."""
    if header is None:
        return 0.0
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now_s)
    except (ValueError, OverflowError):
        return 0.0
