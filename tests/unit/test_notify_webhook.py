"""A webhook's server gets every message, signed, in order, at least once, whatever goes wrong in between."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import hmac
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from appliance.config import WebhookSettings
from appliance.notify.backoff import Backoff
from appliance.notify.outbox import Message, Outbox
from appliance.notify.webhook import _LONGEST_WAIT_S, Webhook, _pause_s
from tests.fakes.certificates import Authority
from tests.fakes.http_receiver import Got, Receiver, receiving
from tests.fakes.waiting import wait_until

SECRET = "correct horse battery staple"  # noqa: S105  # a test's


def message(number: int) -> Message:
    return Message("webhook", f"{number:032x}", "event", "began", b'{"number": %d}' % number, datetime.now(UTC))


@pytest.fixture
def settings(tmp_path: Path) -> WebhookSettings:
    path = tmp_path / "webhook.secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return WebhookSettings(secret_file=path, deadline_s=5.0)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox.sqlite")
    yield outbox
    outbox.close()


@contextlib.contextmanager
def sending(settings: WebhookSettings, outbox: Outbox, url: str) -> Iterator[Webhook]:
    webhook = Webhook(replace(settings, url=url), outbox, backoff=Backoff(first_s=0.02, most_s=0.1))
    webhook.start()
    try:
        yield webhook
    finally:
        webhook.stop(deadline_s=30)


def here(receiver: Receiver, path: str = "/hook") -> str:
    return f"http://127.0.0.1:{receiver.port}{path}"


def hold(over: threading.Event) -> None:
    """No answer until the test is over."""
    over.wait(60)


def rubbish(handler: BaseHTTPRequestHandler) -> None:
    """An answer that is none."""
    handler.wfile.write(b"\x00\xff rubbish\r\n\r\n")


def put(outbox: Outbox, webhook: Webhook, *numbers: int) -> None:
    for number in numbers:
        outbox.put(message(number))
    webhook.wake()


def numbers(got: list[Got]) -> list[bytes]:
    return [each.body for each in got]


def test_a_message_is_posted_and_its_signature_can_be_checked(settings: WebhookSettings, outbox: Outbox) -> None:
    with receiving() as receiver, sending(settings, outbox, here(receiver, "/hook?site=a")) as webhook:
        put(outbox, webhook, 1)
        (got,) = receiver.wait(1)
        wait_until(lambda: outbox.waiting("webhook") == 0)
        assert webhook.fault is None
    assert got.path == "/hook?site=a"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Sitecam-Delivery"] == message(1).delivery
    stamp, given = (part.split("=", 1)[1] for part in got.headers["Sitecam-Signature"].split(","))
    expected = hmac.new(SECRET.encode(), stamp.encode() + b"." + got.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(given, expected)
    assert abs(int(stamp) - time.time()) < 60
    assert outbox.sent()[0].messages == 1


def test_messages_arrive_in_their_order(settings: WebhookSettings, outbox: Outbox) -> None:
    with receiving() as receiver, sending(settings, outbox, here(receiver)) as webhook:
        receiver.answers += [(204, {}), (500, {}), (503, {})]
        put(outbox, webhook, *range(6))
        got = receiver.wait(8)
    assert numbers(got) == [message(number).body for number in (0, 1, 1, 1, 2, 3, 4, 5)]


@pytest.mark.parametrize("status", [500, 502, 429, 408, 404, 401, 301])
def test_a_server_that_fails_is_tried_again_with_the_same_delivery(
    settings: WebhookSettings, outbox: Outbox, status: int
) -> None:
    with receiving() as receiver, sending(settings, outbox, here(receiver)) as webhook:
        receiver.answers += [(status, {"Location": "http://127.0.0.1:1/elsewhere"})] * 3
        put(outbox, webhook, 1)
        got = receiver.wait(4)
        wait_until(lambda: outbox.waiting("webhook") == 0)
    assert {each.headers["Sitecam-Delivery"] for each in got} == {message(1).delivery}
    assert {each.path for each in got} == {"/hook"}  # nothing went elsewhere
    assert outbox.dropped("webhook") == 0


def test_a_refusal_says_what_the_server_answered(settings: WebhookSettings, outbox: Outbox) -> None:
    with receiving() as receiver, sending(settings, outbox, here(receiver)) as webhook:
        receiver.answers += [(302, {"Location": "https://elsewhere.example/"})] * 1000
        put(outbox, webhook, 1)
        fault = wait_until(lambda: webhook.fault or "")
    assert "302" in fault
    assert "Redirects are not followed" in fault


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_message_that_the_server_never_wants_does_not_hold_up_the_next(
    settings: WebhookSettings, outbox: Outbox, status: int
) -> None:
    with receiving() as receiver, sending(settings, outbox, here(receiver)) as webhook:
        receiver.answers.append((status, {}))
        put(outbox, webhook, 1, 2)
        got = receiver.wait(2)
        wait_until(lambda: outbox.waiting("webhook") == 0)
    assert numbers(got) == [message(1).body, message(2).body]
    assert outbox.dropped("webhook") == 1
    assert outbox.sent()[0].messages == 1


@pytest.mark.parametrize("how", ["seconds", "date"])
def test_a_server_that_asks_for_a_pause_gets_it(settings: WebhookSettings, outbox: Outbox, how: str) -> None:
    with receiving() as receiver, sending(settings, outbox, here(receiver)) as webhook:
        later = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        receiver.answers.append((503, {"Retry-After": "2" if how == "seconds" else later}))
        put(outbox, webhook, 1)
        first, second = receiver.wait(2)
    assert second.at_s - first.at_s > 1  # without it: a twentieth of a second


@pytest.mark.parametrize("nonsense", ["soon", "-5", "", "\u00b2", "99999999999999999999999999"])
def test_a_pause_that_makes_no_sense_is_bounded(nonsense: str) -> None:
    assert 0 <= min(_pause_s(nonsense, 0), _LONGEST_WAIT_S) <= _LONGEST_WAIT_S
    assert _pause_s(None, 0) == 0


def test_a_message_is_given_up_when_its_time_is_over(settings: WebhookSettings, outbox: Outbox) -> None:
    short = replace(settings, give_up_after_s=1.0)
    with receiving() as receiver, sending(short, outbox, here(receiver)) as webhook:
        receiver.answers += [(500, {})] * 10000
        put(outbox, webhook, 1)
        receiver.wait(2)
        wait_until(lambda: outbox.waiting("webhook") == 0)
        assert outbox.dropped("webhook") == 1
        receiver.answers.clear()
        put(outbox, webhook, 2)
        wait_until(lambda: message(2).body in numbers(receiver.got))


def test_a_server_that_comes_later_gets_everything(settings: WebhookSettings, outbox: Outbox) -> None:
    with receiving() as receiver:
        port = receiver.port
    with sending(settings, outbox, f"http://127.0.0.1:{port}/hook") as webhook:
        put(outbox, webhook, 1, 2)
        assert "can't be reached" in wait_until(lambda: webhook.fault or "")
        with receiving(port=port) as later:
            got = later.wait(2)
            wait_until(lambda: webhook.fault is None)
    assert numbers(got) == [message(1).body, message(2).body]


def test_a_server_that_never_answers_costs_the_deadline_and_no_more(settings: WebhookSettings, outbox: Outbox) -> None:
    over = threading.Event()
    with receiving() as receiver:
        receiver.instead = lambda _handler: hold(over)
        with sending(replace(settings, deadline_s=0.5), outbox, here(receiver)) as webhook:
            put(outbox, webhook, 1)
            assert "did not answer within 0.5 s" in wait_until(lambda: webhook.fault or "")
            receiver.wait(2)
            receiver.instead = None
            wait_until(lambda: outbox.waiting("webhook") == 0)
        over.set()


def test_a_server_that_drips_its_answer_costs_the_deadline_and_no_more(
    settings: WebhookSettings, outbox: Outbox
) -> None:
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not over.wait(0.1):
                handler.wfile.write(b"x")
                handler.wfile.flush()

    with receiving() as receiver:
        receiver.instead = drip
        with sending(replace(settings, deadline_s=1.0), outbox, here(receiver)) as webhook:
            put(outbox, webhook, 1)
            assert "did not answer within 1 s" in wait_until(lambda: webhook.fault or "")
            assert outbox.waiting("webhook") == 1
        over.set()


def test_an_answer_that_is_no_http_is_tried_again(settings: WebhookSettings, outbox: Outbox) -> None:
    with receiving() as receiver, sending(settings, outbox, here(receiver)) as webhook:
        receiver.instead = rubbish
        put(outbox, webhook, 1)
        receiver.wait(2)
        receiver.instead = None
        wait_until(lambda: outbox.waiting("webhook") == 0)


def test_a_server_with_the_right_certificate_is_trusted_and_others_are_not(
    settings: WebhookSettings, outbox: Outbox, tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other-ca")
    with receiving(tls=authority.server_context()) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/hook"
        outbox.put(message(1))
        for wrong in (other.pem, Path()):
            with sending(replace(settings, ca=wrong), outbox, url) as webhook:
                assert "is not trusted" in wait_until(lambda webhook=webhook: webhook.fault or "")  # type: ignore[misc]
        assert receiver.got == []
        with sending(replace(settings, ca=authority.pem), outbox, url):
            assert numbers(receiver.wait(1)) == [message(1).body]
            wait_until(lambda: outbox.waiting("webhook") == 0)


def test_a_certificate_for_another_name_is_not_trusted(
    settings: WebhookSettings, outbox: Outbox, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    outbox.put(message(1))
    with receiving(tls=authority.server_context("elsewhere.example")) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/hook"
        with sending(replace(settings, ca=authority.pem), outbox, url) as webhook:
            assert "is not trusted" in wait_until(lambda: webhook.fault or "")
        assert receiver.got == []


def test_a_server_that_hangs_in_its_handshake_costs_the_deadline(settings: WebhookSettings, outbox: Outbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outbox.put(message(1))
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/hook"
        with sending(replace(settings, deadline_s=0.5), outbox, url) as webhook:
            assert "did not answer within 0.5 s" in wait_until(lambda: webhook.fault or "")


def test_stopping_does_not_wait_for_the_server_and_keeps_the_message(settings: WebhookSettings, outbox: Outbox) -> None:
    over = threading.Event()
    with receiving() as receiver:
        receiver.instead = lambda _handler: hold(over)
        webhook = Webhook(replace(settings, url=here(receiver), deadline_s=300), outbox)
        webhook.start()
        put(outbox, webhook, 1)
        receiver.wait(1)
        webhook.stop(deadline_s=30)
        assert not webhook._thread.is_alive()
        assert outbox.waiting("webhook") == 1
        over.set()


def test_waits_grow_to_their_limit_and_are_never_the_same_for_all() -> None:
    backoff = Backoff(first_s=1, most_s=300)
    waits = [backoff.next_s() for _ in range(40)]
    for number, wait_s in enumerate(waits):
        step_s = min(300.0, 2.0**number)
        assert step_s / 2 <= wait_s <= step_s
    assert len(set(waits[10:])) == 30
    backoff.reset()
    assert backoff.next_s() <= 1
