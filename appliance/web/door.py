"""How a person comes in and leaves: what they must bring, what it costs to guess, and the cookie they carry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts import Accounts
from appliance.errors import NotAllowedError
from appliance.sessions import LONGEST_S
from appliance.web.guards import error_response
from appliance.web.roles import Caller
from appliance.web.throttle import Throttle


class Door:
    """Carries sessions in a cookie, and slows down guessing.

    Args:
        accounts: Who may come in.
        throttle: Wrong tries.
        https: Whether the page is served over TLS: then browsers send the cookie nowhere else.
    """

    def __init__(self, accounts: Accounts, throttle: Throttle, *, https: bool) -> None:
        self._accounts = accounts
        self._throttle = throttle
        self._https = https
        # Browsers keep cookies per host, not per port: cameras and fleet page on one machine need names of their own.
        own = hashlib.sha256(str(accounts.path.resolve()).encode()).hexdigest()[:8]
        # The prefix makes browsers insist on Secure, Path=/ and this very host; without TLS they would refuse it.
        self.cookie = f"{'__Host-' if https else ''}sitecam-{own}"

    def who(self, request: Request) -> Caller | None:
        """Who sent a request; None for a stranger.

        Raises:
            StoreError: The accounts can't be read.
        """
        return self._accounts.sessions.who(self._token(request))

    def let_in(self, request: Request, enter: Callable[[], str], *, key: str = "") -> str | Response:
        """A token where ``enter`` gives one, or the answer that makes a guesser wait.

        Args:
            request: From whom.
            enter: Checks what was brought; raises NotAllowedError where it is wrong.
            key: Whose guesses are counted together; default: all from the request's address.

        Raises:
            NotAllowedError: What was brought is wrong.
        """
        counted = key or (request.client.host if request.client else "")
        wait_s = self._throttle.wait_s(counted)
        if wait_s:
            refusal = error_response(
                429,
                f"Too many wrong tries: the next one is looked at in {wait_s} s",
                "Somebody may be guessing",
                "Wait, then try again",
            )
            refusal.headers["Retry-After"] = str(wait_s)
            return refusal
        try:
            token = enter()
        except NotAllowedError:
            raise
        except BaseException:
            self._throttle.spare(counted)  # it was no guess
            raise
        self._throttle.right(counted)
        return token

    def carry(self, request: Request, response: Response, token: str) -> None:
        """Give the browser a new session; one that it brought ends, whoever planted it."""
        brought = self._token(request)
        if brought:
            self._accounts.sessions.end(brought)
        response.set_cookie(
            self.cookie, token, max_age=int(LONGEST_S), secure=self._https, httponly=True, samesite="strict", path="/"
        )

    def leave(self, request: Request, response: Response) -> None:
        """End the session."""
        self._accounts.sessions.end(self._token(request))
        response.delete_cookie(self.cookie, secure=self._https, httponly=True, samesite="strict", path="/")

    def _token(self, request: Request) -> str:
        return request.cookies.get(self.cookie, "")
