"""Refuses a Fleet API request that was seen before.

Flower's cameras sign the time of each request, and that alone: within five minutes whoever had such a header could
send it again, with whatever body, in that camera's name. TLS keeps the header from everybody but the two ends; this
is the second lock. What is remembered is the signature's r, which a third party can't change without the private key,
where s can be turned into n - s (FIPS 186-5, section 6.4; a signature has two forms that verify).

This leans on one name inside flwr 1.41.0, which is pinned; tests/night/test_strangers.py proves that it works.
"""

from __future__ import annotations

import threading
import time
from base64 import b64decode
from logging import WARNING

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from fastapi import HTTPException, Request, status
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE
from flwr.supercore import log
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.superlink.dependencies.linkstate import get_linkstate
from flwr.superlink.routers.fleet import node_auth

REMEMBERED_S = TIMESTAMP_TOLERANCE + 2 * SYSTEM_TIME_TOLERANCE + 1  # then the signed time itself is too old

_authenticate = node_auth.authenticate_node


class Seen:
    """Signatures of the last minutes.

    Args:
        remembered_s: For how long each is kept.
    """

    def __init__(self, remembered_s: float = REMEMBERED_S) -> None:
        self._remembered_s = remembered_s
        self._lock = threading.Lock()
        self._until: dict[tuple[str, int], float] = {}  # in the order in which they end

    def is_new(self, public_key: str, r: int) -> bool:
        """Whether this one is seen for the first time; from now on it isn't."""
        now = time.monotonic()
        with self._lock:
            while self._until and next(iter(self._until.values())) < now:
                del self._until[next(iter(self._until))]
            if (public_key, r) in self._until:
                return False
            self._until[public_key, r] = now + self._remembered_s
        return True

    def __len__(self) -> int:
        return len(self._until)


def refuse_replays() -> None:
    """From now on, in this process's SuperLink, every signed request counts once."""
    seen = Seen()

    def authenticate_once(request: Request) -> None:
        _authenticate(request)
        public_key = request.headers[FLEET_HTTP_PUBLIC_KEY_HEADER]
        if get_linkstate(request).get_node_id_by_public_key(b64decode(public_key)) is None:
            return  # a stranger signs what he likes, is refused for it, and must not fill our memory
        r, _ = decode_dss_signature(b64decode(request.headers[FLEET_HTTP_SIGNATURE_HEADER]))
        if not seen.is_new(public_key, r):
            log(WARNING, "Refused: %s was asked with a signature that had been used before", request.url.path)
            raise HTTPException(status.HTTP_401_UNAUTHORIZED, "This request was sent before")

    vars(node_auth)["authenticate_node"] = authenticate_once
