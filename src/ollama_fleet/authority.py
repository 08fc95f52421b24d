"""The fleet's own certificate authority: one root, one server certificate for each host. EC P-256 keys, all PEM."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3652
HOST_DAYS = 825
RENEW_DAYS = 30
# A host's clock may be behind ours.
_CLOCK_SKEW = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str


def make_authority(now: datetime | None = None) -> Pair:
    """A root that signs host certificates and no further authorities."""
    now = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ollama-fleet authority {now:%Y-%m-%d}")])
    builder = (
        _builder(name, name, key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Pair, host: str, addresses: Iterable[str], now: datetime | None = None) -> Pair:
    """A server certificate for `host`, valid for its name and its addresses, and never longer than the authority."""
    now = now or datetime.now(UTC)
    root, root_key = _read(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    # A common name has 64 characters at most; the alternative names are what counts.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    until = min(now + timedelta(days=HOST_DAYS), root.not_valid_after_utc)
    builder = (
        _builder(subject, root.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names([host, *addresses])), critical=False)
    )
    return _pair(builder.sign(root_key, hashes.SHA256()), key)


def flaw_of_authority(authority: Pair, now: datetime | None = None) -> str | None:
    """Why an authority must be made anew, None when it is fit."""
    try:
        certificate, key = _read(authority)
    except (ValueError, TypeError):
        return "it cannot be read"
    if not _belong_together(certificate, key):
        return "certificate and key do not belong together"
    return _nearly_over(certificate, now)


def flaw_of_host(
    pair: Pair, authority: Pair, host: str, addresses: Iterable[str], now: datetime | None = None
) -> str | None:
    """Why a host's certificate must be made anew, None when it is fit."""
    try:
        certificate, key = _read(pair)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return "it cannot be read"
    if not _belong_together(certificate, key):
        return "certificate and key do not belong together"
    try:
        certificate.verify_directly_issued_by(_read(authority)[0])
    except (ValueError, TypeError, InvalidSignature):
        return "another authority signed it"
    if set(names) != set(_names([host, *addresses])):
        return "the host's address changed"
    return _nearly_over(certificate, now)


def _nearly_over(certificate: x509.Certificate, now: datetime | None) -> str | None:
    left = (certificate.not_valid_after_utc - (now or datetime.now(UTC))).days
    return f"{max(left, 0)} days are left of it" if left < RENEW_DAYS else None


def _read(pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(pair.key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an EC key")
    return x509.load_pem_x509_certificate(pair.certificate.encode()), key


def _belong_together(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _names(names: Iterable[str]) -> list[x509.GeneralName]:
    result: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            result.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())
