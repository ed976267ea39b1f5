"""The lab's own certificate authority: it signs the certificates of its broker, its recorder and its gateways.

Keys are EC P-256. The authority and its broker's certificate are valid for ten years, a gateway's for two; it
is enrolled again before that. Whoever has the authority's key can be anybody: it stays on the broker's machine.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_VALIDITY: Final = datetime.timedelta(days=3652)
VALIDITY: Final = datetime.timedelta(days=730)

_CLOCK_TOLERANCE: Final = datetime.timedelta(hours=1)
"""Certificates are valid from so long ago, because clocks of gateways differ."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key as PEM, its serial number, and when it ends."""

    certificate: str
    key: str
    serial: int
    expires: datetime.datetime


class Authority:
    """Signs certificates.

    Parameters
    ----------
    certificate, key
        PEM, as `create` makes them.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self.certificate = certificate
        self._certificate = x509.load_pem_x509_certificate(certificate.encode())
        self._key = _load_key(key)

    @classmethod
    def create(cls, name: str) -> tuple[Authority, str]:
        """Return a new authority and its key as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = (
            _builder(subject, subject, key.public_key(), AUTHORITY_VALIDITY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        key_pem = _key_pem(key)
        return cls(_pem(builder.sign(key, hashes.SHA256())), key_pem), key_pem

    def client(self, identity: str, validity: datetime.timedelta = VALIDITY) -> Issued:
        """Return a certificate with which `identity` logs in at the broker."""
        return self._issue(identity, ExtendedKeyUsageOID.CLIENT_AUTH, (), validity)

    def server(self, names: Sequence[str]) -> Issued:
        """Return a certificate of a broker that is reached under these DNS names or IP addresses."""
        left = self._certificate.not_valid_after_utc - _now()
        return self._issue(names[0][:64], ExtendedKeyUsageOID.SERVER_AUTH, names, left)

    def revocations(self, serials: Iterable[int]) -> str:
        """Return the list of revoked certificates as PEM.

        It never ages: a list past its `nextUpdate` would lock everybody out.
        """
        now = _now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _CLOCK_TOLERANCE)
            .next_update(self._certificate.not_valid_after_utc)
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def _issue(
        self, name: str, purpose: x509.ObjectIdentifier, names: Sequence[str], validity: datetime.timedelta
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(name), self._certificate.subject, key.public_key(), validity)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(n) for n in names])
            builder = builder.add_extension(alternatives, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return Issued(_pem(signed), _key_pem(key), signed.serial_number, signed.not_valid_after_utc)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, validity: datetime.timedelta
) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + validity) - _CLOCK_TOLERANCE)
        .not_valid_after(now + validity)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("expected an EC key")  # noqa: TRY004 - the file's content is at fault
    return key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
