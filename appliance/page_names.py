"""Which names a camera's page goes by, and which of them a fleet's authority may vouch for.

Whoever installs the fleet's authority on a phone believes every certificate that it signs. So it signs for nothing
that could be anybody else's:

- names without a dot, which only the site's own resolver knows;
- one name below ``.local``, which machines on the same link answer to (RFC 6762);
- names below ``.internal`` (kept for private use by ICANN, 2024) and ``.home.arpa`` (RFC 8375), of which the public
  internet has none;
- private and link-local addresses: RFC 1918, 3927, 4193 and 4291.

It never signs for loopback: ``localhost`` is another machine to everybody who types it, and the fleet's server is
asked under that name by its own proxy.
"""

from __future__ import annotations

import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

MAX_NAMES = 32

PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)
PRIVATE_SUFFIXES = ("internal", "home.arpa")
_LOOPBACK = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAME_CHARACTERS = 253
_GET_ADDRESS = 0x8915  # SIOCGIFADDR of Linux
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")


def wanted_names(more: Iterable[str] = ()) -> tuple[str, ...]:
    """Every name under which this machine's page may be opened: given ones, its own, loopback, its addresses.

    Args:
        more: ``page.names`` and ``page.host``.

    Returns:
        In their plain form, each once, at most :data:`MAX_NAMES`; what is no name at all is left out.
    """
    host = socket.gethostname().partition(".")[0]
    found = [*more, host, f"{host}.local", "localhost", "127.0.0.1", "::1", *own_addresses()]
    plain = [plain_name(name) for name in found]
    good = (name for name in plain if name not in ("0.0.0.0", "::") and not _malformed(name))  # noqa: S104
    return tuple(dict.fromkeys(good))[:MAX_NAMES]


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses, one per interface, and its IPv6 ones, without loopback.

    Link-local IPv6 is left out: no browser opens an address that needs an interface's name.
    """
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without IPv4
            found.append(socket.inet_ntoa(answer[20:24]))
    if _IPV6_ADDRESSES.exists():  # not on a kernel without IPv6
        lines = _IPV6_ADDRESSES.read_text(encoding="ascii").splitlines()
        found += [str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))) for line in lines]
    return [text for text in found if not (address := ipaddress.ip_address(text)).is_loopback and not _zoned(address)]


def objection_to_name(name: str) -> str:
    """Why a fleet's authority does not vouch for a name, in a sentence; empty where it may.

    Args:
        name: As :func:`plain_name` gives it.
    """
    address = _address(name)
    if address is not None:
        if address.is_loopback:
            return "it is another machine to everybody who uses it"
        if any(address in network for network in PRIVATE_NETWORKS if network.version == address.version):
            return ""
        return "it is no private address"
    if _malformed(name):
        return _malformed(name)
    if name in _LOOPBACK or name.endswith(".localhost"):
        return "it is another machine to everybody who uses it"
    if name in ("local", *PRIVATE_SUFFIXES):
        return "it is no name of a machine"
    host, _, suffix = name.partition(".")
    if not suffix or (host and suffix == "local") or name.endswith(tuple(f".{each}" for each in PRIVATE_SUFFIXES)):
        return ""
    if name.endswith(".local"):
        return "below .local machines have one name each, without a further dot"
    return "it could be a name on the public internet"


def plain_name(name: str) -> str:
    """A name or address in the one form in which we compare it."""
    text = name.strip().strip("[]").lower()
    address = _address(text)
    return text if address is None else str(address)


def general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Names as certificates hold them."""
    found = ((name, _address(name)) for name in names)
    return [x509.DNSName(name) if address is None else x509.IPAddress(address) for name, address in found]


def names_in(alternatives: x509.SubjectAlternativeName) -> list[str]:
    """The reverse.

    Raises:
        ValueError: It holds something that is neither a host's name nor an address.
    """
    found = []
    for name in alternatives:
        if not isinstance(name, (x509.DNSName, x509.IPAddress)):
            raise ValueError(f"{type(name).__name__} is no host's name")
        found.append(plain_name(str(name.value)))
    return found


def _malformed(name: str) -> str:
    if _address(name) is not None:
        return ""
    labels = name.split(".")
    if "*" in name:
        return "a wildcard would stand for other machines too"
    if len(name) > _NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        return "it is no host's name"
    if _NUMBER.fullmatch(labels[-1]):
        return "browsers read it as a number"  # and so as an address: WHATWG URL, "ends in a number"
    return ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return None if isinstance(address, ipaddress.IPv6Address) and address.scope_id else address


def _zoned(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.version == 6 and address.is_link_local
