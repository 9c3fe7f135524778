"""The certificate that this relay shows to brokers: whether it is valid, how long, whom it names.

Python reads a certificate only out of a handshake: so it is shown to ourselves, in memory.
"""

import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from relay.config.fleet import FleetConfig
from relay.model.certificate import EXPIRES_SOON_DAYS, days_left

# Of the fields of a subject, the short names that RFC 2253 gives them.
_SHORT: Final = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
}
_TURNS: Final = 10  # a handshake takes three


class OwnCertificate(NamedTuple):
    """`wrong`: why nobody can accept it, empty where somebody may; `subject`: as brokers say it;
    `warning`: that it expires in some days, and what to do.
    """

    wrong: str = ""
    subject: str = ""
    warning: str = ""


def look_at_own(fleet: FleetConfig) -> OwnCertificate:
    """What there is to say of `fleet.client_cert`."""
    if fleet.client_cert is None or fleet.client_key is None:
        return OwnCertificate()
    try:
        found = _shown(str(fleet.client_cert), str(fleet.client_key))
    except ssl.SSLCertVerificationError as error:
        known = {9: "is not valid yet", 10: "has expired: renew it, then reload the relay"}
        return OwnCertificate(
            known.get(error.verify_code, f"cannot be used: {error.verify_message}")
        )
    except (ssl.SSLError, OSError) as error:
        return OwnCertificate(f"cannot be used: {error.strerror or error}")
    parts = [
        "+".join(f"{_SHORT.get(key, key)}={value}" for key, value in part)
        for part in reversed(found.get("subject", ()))
    ]
    return OwnCertificate(subject=",".join(parts), warning=_warning(found))


def _warning(certificate: Mapping[str, object]) -> str:
    days = days_left(certificate)
    if days is None or days >= EXPIRES_SOON_DAYS:
        return ""
    left = f"in {days} days" if days > 1 else "within two days" if days else "within a day"
    return f"fleet.client_cert expires {left}: renew it, then reload the relay"


def _shown(certificate: str, key: str) -> dict[str, Any]:
    """What a server learns of it that trusts just this certificate."""
    shows = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shows.check_hostname = False
    shows.verify_mode = ssl.CERT_NONE
    asks = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (shows, asks):
        context.load_cert_chain(certificate, key, password=b"")
    asks.verify_mode = ssl.CERT_REQUIRED
    asks.load_verify_locations(certificate)
    asks.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = shows.wrap_bio(back, there)
    server = asks.wrap_bio(there, back, server_side=True)
    for turn in range(_TURNS):
        side = server if turn % 2 else client
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        if side is server:
            return server.getpeercert() or {}
    raise ssl.SSLError("no handshake with itself")
