"""Throw-away certificates: an authority in a folder, and what it issues."""

import dataclasses
import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@dataclasses.dataclass
class Authority:
    """A certificate authority in a folder."""

    folder: Path
    key: Key
    certificate: x509.Certificate

    @property
    def file(self) -> str:
        return str(self.folder / "ca.pem")

    def issue(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        begins: dt.datetime = NOW - DAY,
        ends: dt.datetime = NOW + DAY,
    ) -> tuple[str, str]:
        """Paths of a new certificate for `host` and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = certificate_for(name, key.public_key(), self.certificate.subject, begins, ends)
        made = builder.add_extension(
            x509.SubjectAlternativeName([general_name(host)]), critical=False
        ).sign(self.key, hashes.SHA256())
        return write(self.folder, name, made, key)


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def certificate_for(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    begins: dt.datetime = NOW - DAY,
    ends: dt.datetime = NOW + DAY,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def write(folder: Path, name: str, certificate: x509.Certificate, key: Key) -> tuple[str, str]:
    pem = serialization.Encoding.PEM
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / f"{name}.pem"), str(folder / f"{name}.key")


def make_authority(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    made = (
        certificate_for("ca", key.public_key(), name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    write(folder, "ca", made, key)
    return Authority(folder, key, made)
