"""Which names a page goes by, and which of them a fleet vouches for."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from appliance import page_names
from appliance.page_names import MAX_NAMES, general_names, objection_to_name, own_addresses, plain_name, wanted_names


@pytest.mark.parametrize(
    "name",
    [
        "gate-1",
        "g",
        "gate-1.local",
        "gate-1.internal",
        "gate-1.yard.internal",
        "gate-1.home.arpa",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.254",
        "192.168.1.7",
        "169.254.3.4",
        "fd00::7",
        "fe80::1",
    ],
)
def test_names_that_exist_on_private_networks_only_are_vouched_for(name: str) -> None:
    assert objection_to_name(name) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gate.example.com", "public internet"),
        ("gate.co.uk", "public internet"),
        ("home.arpa", "no name of a machine"),
        ("internal", "no name of a machine"),
        ("local", "no name of a machine"),
        ("a.b.local", "one name each"),
        ("*.local", "wildcard"),
        ("*", "wildcard"),
        ("gate-*.local", "wildcard"),
        ("localhost", "another machine to everybody"),
        ("gate.localhost", "another machine to everybody"),
        ("localhost.localdomain", "another machine to everybody"),
        ("127.0.0.1", "another machine to everybody"),
        ("127.9.9.9", "another machine to everybody"),
        ("::1", "another machine to everybody"),
        ("8.8.8.8", "no private address"),
        ("172.32.0.1", "no private address"),
        ("192.169.0.1", "no private address"),
        ("100.64.0.1", "no private address"),
        ("0.0.0.0", "no private address"),  # noqa: S104
        ("::", "no private address"),
        ("2001:db8::1", "no private address"),
        ("::ffff:10.0.0.1", "no private address"),
        ("224.0.0.251", "no private address"),
        ("1234", "read it as a number"),
        ("0x7f000001", "read it as a number"),
        ("gate.10", "read it as a number"),
        ("", "no host's name"),
        (".local", "no host's name"),
        ("gate.local.", "no host's name"),
        ("gate..local", "no host's name"),
        ("-gate.local", "no host's name"),
        ("gate_1", "no host's name"),
        ("gate 1", "no host's name"),
        ("gate\n", "no host's name"),
        ("gäte.local", "no host's name"),
        ("Gate.local", "no host's name"),
        ("gate/1", "no host's name"),
        ("gate:443", "no host's name"),
        ("a" * 64, "no host's name"),
        (".".join(["a" * 60] * 5) + ".internal", "no host's name"),
    ],
)
def test_a_name_that_could_be_anybodys_is_not(name: str, why: str) -> None:
    assert why in objection_to_name(name)


def test_names_are_compared_in_one_form() -> None:
    assert plain_name(" Gate-1.LOCAL ") == "gate-1.local"
    assert plain_name("[FD00:0:0::7]") == "fd00::7"


def test_the_page_goes_by_given_names_the_machines_own_and_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Gate-1.site.example")
    monkeypatch.setattr(page_names, "own_addresses", lambda: ["192.168.1.7", "fd00::7"])
    assert wanted_names(["Yard.local", "0.0.0.0", "::", "no name", "gate-1"]) == (  # noqa: S104
        *("yard.local", "gate-1", "gate-1.local", "localhost", "127.0.0.1", "::1", "192.168.1.7", "fd00::7"),
    )
    assert len(wanted_names(f"gate-{number}" for number in range(100))) == MAX_NAMES
    assert general_names(wanted_names())  # each can stand in a certificate


def test_a_machines_addresses_are_real_ones_without_loopback() -> None:
    for text in own_addresses():
        address = ipaddress.ip_address(text)
        assert not address.is_loopback
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((text, 0))  # nobody can listen on another machine's
