"""Is the fleet's server there, is it ours, and do its clock and this camera's agree?

A SuperNode would try for ever and say nothing, or be refused without being told why.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from appliance.errors import CertificateError, NightError
from trainer.flower import endpoint

_TIMEOUT_S = 10.0
_AHEAD_S = 4.0  # flwr 1.41 refuses what was signed more than 5 s in the server's future; its Date is whole seconds
_BEHIND_S = 300.0  # or more than 305 s in its past
_AGAIN_S = 5.0


def wait_for_server(
    host: str,
    port: int,
    authority: Path,
    proxy: str,
    *,
    ends: float,
    stopping: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Return once the fleet's server answers, with a certificate by the fleet's authority and a clock like ours.

    Args:
        host: The server's.
        port: TCP.
        authority: The certificate authority's certificate, PEM.
        proxy: The one way out, which counts what is asked here too.
        ends: When to give up, on ``time.monotonic``.
        stopping: Set where the night shall end.
        say: Told what it waits for, in sentences.

    Raises:
        CertificateError: Somebody else answers there.
        NightError: Nobody did until the end, or the clocks never agreed.
    """
    problem = NightError(
        f"The fleet's server {host}:{port} could not be reached tonight (no time was left)",
        means="This camera did not train; its model stays",
        do="Check the network and the server",
    )
    while not stopping.is_set() and time.monotonic() < ends:
        try:
            ahead_s = clock_ahead_s(host, port, authority, proxy)
        except ssl.SSLCertVerificationError as error:
            raise CertificateError(
                f"The server on {host}:{port} shows a certificate that this fleet's authority did not sign"
                f" ({error.verify_message})",
                means="It may be another server, or the clock is wrong; nothing was sent",
                do="Check the address and the clock; if the server was made anew, enrol this camera again",
            ) from error
        except (OSError, httpx.HTTPError) as error:
            said = str(error) or type(error).__name__
            problem = NightError(
                f"The fleet's server {host}:{port} could not be reached tonight ({said})",
                means="This camera did not train; its model stays",
                do="Check the network and the server",
            )
            say(f"The fleet's server {host}:{port} can't be reached: {said}")
        else:
            if -_BEHIND_S < ahead_s < _AHEAD_S:
                return
            problem = clock_error(ahead_s)
            say(str(problem))
        stopping.wait(max(0.0, min(_AGAIN_S, ends - time.monotonic())))
    raise problem


def clock_ahead_s(host: str, port: int, authority: Path, proxy: str) -> float:
    """How far this camera's clock is ahead of the server's, in seconds (the server's is known to one).

    Raises:
        ssl.SSLCertVerificationError: The certificate is not by the fleet's authority.
        OSError: Nobody is there.
        httpx.HTTPError: Something that doesn't speak TLS, or is not a web server.
    """
    socket.create_connection((host, port), timeout=_TIMEOUT_S).close()  # the proxy would not tell why it can't
    context = ssl.create_default_context(cafile=str(authority))
    try:
        with httpx.Client(proxy=proxy, verify=context, timeout=_TIMEOUT_S, trust_env=False) as client:
            said = client.get(f"https://{endpoint(host, port)}/v1/fleet/").headers.get("Date")
    except httpx.ConnectError as error:
        reason = _refusal(error)
        if reason:
            raise reason from error
        raise
    try:
        server = parsedate_to_datetime(said or "").astimezone(UTC)
    except ValueError:
        return 0.0  # it doesn't say; a SuperNode that is refused will
    now = datetime.now(UTC)
    # The header is cut to the second: the server's clock is anywhere between it and a second later.
    early, late = (now - server).total_seconds() - 1, (now - server).total_seconds()
    return max(0.0, early) if late > 0 else late


def _refusal(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """The certificate's fault behind an error of httpx's, if it was that."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause


def clock_error(ahead_s: float) -> NightError:
    """The error for clocks that differ too much."""
    way = "ahead of" if ahead_s > 0 else "behind"
    return NightError(
        f"This camera's clock is {abs(ahead_s):.0f} s {way} the server's",
        means="The server refuses messages that seem to come from the future, or from too long ago",
        do="Let both synchronise (timedatectl should say System clock synchronized: yes); it is tried again until the"
        " night ends",
    )
