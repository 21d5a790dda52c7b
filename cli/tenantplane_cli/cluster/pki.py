"""Certificates of a control plane that we run: one certificate authority per purpose, thrown away with the cluster.

Guarantees: client certificates carry user and groups as Kubernetes reads them (CN = user, each O = a group:
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates); serving
certificates carry subject alternative names; every chain satisfies OpenSSL's strict checks (key usage, key ids), which
Python turns on from 3.13. Private keys are written 0600. Does not: revoke, renew, or fit production.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID_FOR = datetime.timedelta(days=30)
_CLOCK_SLACK = datetime.timedelta(hours=1)


def write_private(path: Path, data: bytes) -> Path:
    """Write a file that only its owner can read, never readable by others for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
    return path


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def subject(user: str, groups: Sequence[str]) -> x509.Name:
    """The X.509 name of a Kubernetes user. Raises ValueError where X.509 cannot carry it (1-64 characters each)."""
    for kind, text in (("user", user), *(("group", group) for group in groups)):
        if not 1 <= len(text) <= 64:
            raise ValueError(f"{kind} {text!r}: a client certificate carries 1 to 64 characters")
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
    )


def signing_request(user: str, groups: Sequence[str]) -> tuple[bytes, bytes]:
    """A fresh key and a PKCS#10 request for it, both PEM: what the CertificateSigningRequest API takes."""
    key = new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(subject(user, groups)).sign(key, hashes.SHA256())
    return key_pem(key), request.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, stem: str) -> tuple[Path, Path]:
        """Writes `<stem>.crt` and `<stem>.key` (0600); returns both paths."""
        return (
            write_private(folder / f"{stem}.crt", self.certificate),
            write_private(folder / f"{stem}.key", self.key),
        )


class Authority:
    """A certificate authority whose key never leaves the owner's work directory."""

    def __init__(self, name: str) -> None:
        self._key = new_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._authority_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.issued = Issued(certificate.public_bytes(serialization.Encoding.PEM), key_pem(self._key))

    def client(self, user: str, groups: Sequence[str] = ()) -> Issued:
        return self._leaf(subject(user, groups), [ExtendedKeyUsageOID.CLIENT_AUTH], ())

    def serving(self, name: str, hosts: Sequence[str], *, client_too: bool = False) -> Issued:
        """A serving certificate for DNS names and IP addresses; `client_too` for servers that also dial each other."""
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if client_too else [])]
        return self._leaf(subject(name, ()), usages, hosts)

    def _leaf(self, name: x509.Name, usages: list[x509.ObjectIdentifier], hosts: Sequence[str]) -> Issued:
        key = new_key()
        builder = (
            self._builder(name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self._authority_id, critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alt(h) for h in hosts]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))

    def _builder(self, name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SLACK)
            .not_valid_after(now + _VALID_FOR)
        )


def _alt(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
