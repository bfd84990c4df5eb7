"""The server's half: whose page gets a certificate, for which names, and how often."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.errors import CertificateError, ConfigError
from appliance.page_material import page_key
from appliance.page_names import MAX_NAMES
from appliance.page_request import MAX_SKEW_S
from server.certificates import load_authority
from server.page_certificates import DAYS, PER_DAY
from tests.fakes.page_asker import Asker, Office, names_of


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def gate(office: Office) -> Asker:
    return office.asker("gate-1")


def test_a_camera_gets_a_certificate_for_its_names_by_the_fleets_authority(office: Office, gate: Asker) -> None:
    answer = gate.ask("gate-1.local", "192.168.1.7")
    assert names_of(answer) == answer["names"] == ["gate-1.local", "192.168.1.7"]
    assert answer["left_out"] == {}
    certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())
    certificate.verify_directly_issued_by(load_authority(office.admission.paths)[0])
    assert certificate.public_key() == page_key(gate.paths).public_key()
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=DAYS)
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, False)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    key_usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (key_usage.digital_signature, key_usage.key_cert_sign) == (True, False)
    (line,) = office.trail()
    assert line.startswith("gate-1 got a page certificate for gate-1.local, 192.168.1.7 until ")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("site-server", "the server's own"),
        ("localhost", "another machine to everybody"),
        ("127.0.0.1", "another machine to everybody"),
        ("gate.example.com", "public internet"),
        ("*.local", "wildcard"),
        ("8.8.8.8", "no private address"),
        ("gate-1", "authority was not made for it"),  # its name constraints can't say "any name without a dot"
    ],
)
def test_a_name_that_may_not_be_in_it_is_left_out_with_its_reason(
    office: Office, gate: Asker, name: str, why: str
) -> None:
    answer = gate.ask(name, "gate-1.local")
    assert names_of(answer) == ["gate-1.local"]
    assert why in answer["left_out"][name]
    assert f"without {name} (" in office.trail()[0]
    with pytest.raises(CertificateError, match=f"No name is left for the camera's page: .*{why}"):
        gate.ask(name)


def test_a_server_known_by_an_address_keeps_that_to_itself(tmp_path: Path) -> None:
    office = Office(tmp_path, host="192.168.1.2")
    answer = office.asker("gate-1").ask("192.168.1.2", "192.168.1.3")
    assert names_of(answer) == ["192.168.1.3"]
    assert answer["left_out"] == {"192.168.1.2": "it is the server's own"}


def test_two_cameras_never_hold_one_name(office: Office, gate: Asker) -> None:
    gate.ask("gate.local", "192.168.1.7")
    other = office.asker("gate-2")
    answer = other.ask("gate.local", "192.168.1.7", "gate-2.local")
    assert names_of(answer) == ["gate-2.local"]
    assert set(answer["left_out"].values()) == {"gate-1 holds it"}
    assert names_of(gate.ask("gate.local")) == ["gate.local"]  # its own name it may have again
    assert "192.168.1.7" in other.ask("192.168.1.7", "gate-2.local")["left_out"]  # the older one still counts


def test_a_name_is_free_again_once_its_certificate_ran_out(office: Office, gate: Asker) -> None:
    gate.ask("gate.local")
    office.now += timedelta(days=DAYS + 1)
    assert names_of(office.asker("gate-2").ask("gate.local")) == ["gate.local"]


def test_a_name_is_free_again_once_its_camera_was_revoked(office: Office, gate: Asker) -> None:
    gate.ask("gate.local")
    office.admission.roster.revoke("gate-1", "stolen")
    assert names_of(office.asker("gate-2").ask("gate.local")) == ["gate.local"]


def test_a_revoked_camera_gets_none_and_the_trail_says_so_once(office: Office, gate: Asker) -> None:
    office.admission.roster.revoke("gate-1", "stolen")
    for _ in range(3):
        with pytest.raises(CertificateError, match="This camera was revoked: stolen"):
            gate.ask("gate-1.local")
    assert office.trail() == ["gate-1 at 192.168.1.7 got no page certificate: This camera was revoked: stolen"]


def test_a_camera_that_nobody_let_in_gets_none_and_leaves_no_trail(office: Office) -> None:
    with pytest.raises(CertificateError, match="knows no camera with that key"):
        office.asker("stranger", enrolled=False).ask("gate-1.local")
    assert office.trail() == []


def test_a_request_is_answered_once(office: Office, gate: Asker) -> None:
    message = gate.message(["gate-1.local"])
    office.certificates.issue(message, "192.168.1.7")
    with pytest.raises(CertificateError, match="answered before"):
        office.certificates.issue(message, "192.168.1.9")


def test_a_request_is_answered_once_even_after_a_restart(office: Office, gate: Asker) -> None:
    message = gate.message(["gate-1.local"])
    office.certificates.issue(message, "192.168.1.7")
    fresh = type(office.certificates)(office.admission, lambda: office.now)
    with pytest.raises(CertificateError, match="answered before"):
        fresh.issue(message, "192.168.1.9")


@pytest.mark.parametrize("off_s", [-MAX_SKEW_S - 1, MAX_SKEW_S + 1, -86400 * 365, 86400])
def test_a_camera_whose_clock_is_wrong_is_told_both_times(office: Office, gate: Asker, off_s: float) -> None:
    at = (office.now + timedelta(seconds=off_s)).replace(microsecond=0)
    with pytest.raises(CertificateError, match=f"The camera's clock says {at:%Y-%m-%d %H:%M} UTC, the server's"):
        office.certificates.issue(gate.message(["gate-1.local"], at_utc=at.isoformat()), "")


def test_a_clock_that_is_a_little_off_is_good_enough(office: Office, gate: Asker) -> None:
    at = office.now - timedelta(seconds=MAX_SKEW_S - 5)
    assert office.certificates.issue(gate.message(["gate-1.local"], at_utc=at.isoformat()), "")["names"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "gate-9"}, "private half"),
        ({"at_utc": "2026-01-01T00:00:00+00:00"}, "private half"),
        ({"nonce": "AAAAAAAAAAAAAAAAAAAAAA=="}, "private half"),
        ({"signature": "AAAA"}, "private half"),
        ({"signature": ""}, "private half"),
        ({"signature": "*"}, "not base64"),
        ({"nonce": "AAAA"}, "3 bytes"),
        ({"csr": 7}, "csr is missing, or no text"),
        ({"public_key": "ssh-rsa AAAA"}, "public_key"),
    ],
)
def test_a_request_that_was_altered_is_refused(
    office: Office, gate: Asker, change: dict[str, object], why: str
) -> None:
    with pytest.raises((CertificateError, ConfigError), match=why):
        office.certificates.issue({**gate.message(["gate-1.local"]), **change}, "")
    assert office.trail() == []


def test_anothers_csr_can_not_be_put_into_a_signed_request(office: Office, gate: Asker) -> None:
    message = gate.message(["gate-1.local"])
    message["csr"] = office.asker("gate-2").message(["gate-1.local"])["csr"]
    with pytest.raises(CertificateError, match="private half"):
        office.certificates.issue(message, "")


def test_a_request_for_another_fleet_is_refused(office: Office, gate: Asker, tmp_path: Path) -> None:
    elsewhere = Office(tmp_path / "south")
    elsewhere.admission.roster.enrol(1, "gate-1", gate.public_key)
    message = gate.message(["gate-1.local"])
    with pytest.raises(CertificateError, match="private half"):
        elsewhere.certificates.issue(message, "")
    assert office.certificates.issue(message, "")["names"]


@pytest.mark.parametrize(
    "at_utc", ["", "soon", "2026-01-01", "2026-01-01T00:00:00", "0001-01-01T00:00:00+23:59", "9" * 50]
)
def test_a_time_that_is_none_is_refused(office: Office, gate: Asker, at_utc: str) -> None:
    with pytest.raises(ConfigError, match="at_utc"):
        office.certificates.issue(gate.message(["gate-1.local"], at_utc=at_utc), "")


def csr(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *names: x509.GeneralName) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def forged() -> str:
    """With its last byte, which belongs to the signature, changed."""
    good = x509.load_pem_x509_csr(csr(ec.generate_private_key(ec.SECP256R1()), x509.DNSName("gate.local")).encode())
    data = bytearray(good.public_bytes(serialization.Encoding.DER))
    data[-1] ^= 1
    return x509.load_der_x509_csr(bytes(data)).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: "rubbish", "csr"),
        (lambda: csr(ec.generate_private_key(ec.SECP384R1()), x509.DNSName("gate.local")), "P-256"),
        (lambda: csr(rsa.generate_private_key(65537, 2048), x509.DNSName("gate.local")), "P-256"),
        (lambda: csr(ec.generate_private_key(ec.SECP256R1())), "csr"),
        (lambda: csr(ec.generate_private_key(ec.SECP256R1()), x509.RFC822Name("a@b.local")), "no host's name"),
        (lambda: csr(ec.generate_private_key(ec.SECP256R1()), x509.UniformResourceIdentifier("https://g")), "no host"),
        (
            lambda: csr(
                ec.generate_private_key(ec.SECP256R1()),
                *(x509.DNSName(f"gate-{number}.local") for number in range(MAX_NAMES + 1)),
            ),
            f"{MAX_NAMES + 1} names",
        ),
        (forged, "signed with it"),
    ],
)
def test_a_csr_that_is_not_as_it_should_be_is_refused(
    office: Office, gate: Asker, make: Callable[[], str], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        office.certificates.issue(gate.message([], csr=make()), "")


def test_a_camera_gets_a_few_a_day(office: Office, gate: Asker) -> None:
    for _ in range(PER_DAY):
        gate.ask("gate-1.local")
    with pytest.raises(CertificateError, match=f"had {PER_DAY} page certificates within a day"):
        gate.ask("gate-1.local")
    assert office.asker("gate-2").ask("gate-2.local")["names"]  # each camera for itself
    office.now += timedelta(hours=25)
    assert gate.ask("gate-1.local")["names"]


def test_what_a_camera_calls_itself_is_noted_where_it_is_another_name(office: Office, gate: Asker) -> None:
    office.certificates.issue(gate.message(["gate-1.local"], name="north gate"), "")
    assert office.trail()[0].startswith("gate-1 (it calls itself 'north gate') got a page certificate")


def test_no_certificate_outlives_the_authority(office: Office, gate: Asker) -> None:
    ends = load_authority(office.admission.paths)[0].not_valid_after_utc
    office.now = ends - timedelta(days=2)
    certificate = x509.load_pem_x509_certificate(gate.ask("gate-1.local")["certificate"].encode())
    assert certificate.not_valid_after_utc == ends
    assert office.now > datetime.now(UTC)
