"""How a camera asks its fleet for its page's certificate: the words that both sides share.

    camera                                              server
    POST /v1/enrol/page   name, public_key, at_utc,  ->  (TLS, checked against the fleet's authority)
                          nonce, csr, signature      <-  certificate, names, left_out | refused and why

The signature is made with the key that a person let into the fleet. It covers everything else, and the fleet's
authority too, so that a request counts for one fleet only; the request itself is signed with the page's key.
"""

from __future__ import annotations

import hashlib
import json

PATH = "page"
MAX_SKEW_S = 300.0
"""How far a camera's clock may be from the server's: a request counts for so long."""


def signed_words(*, authority: str, name: str, public_key: str, at_utc: str, nonce: str, csr: str) -> bytes:
    """What the camera signs: ECDSA with SHA-256 over these words.

    Args:
        authority: SHA-256 of the fleet's authority, 64 hex digits.
        name: What the camera calls itself.
        public_key: The camera's, OpenSSH's form.
        at_utc: When it asked, ISO 8601.
        nonce: Base64.
        csr: PEM.
    """
    digest = hashlib.sha256(csr.encode()).hexdigest()
    return json.dumps(["sitecam page certificate", authority, name, public_key, at_utc, nonce, digest]).encode()
