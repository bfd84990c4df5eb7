"""The page's listening socket."""

from __future__ import annotations

import socket

from appliance.web.listener import Listener


def test_an_answer_does_not_wait_for_the_other_sides_acknowledgement() -> None:
    with Listener(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            taken, _ = listener.accept()
            with taken:
                assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
