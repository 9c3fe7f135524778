"""Why the brokers do not let this relay in, in words that say what to do.

The client tells what became of a connection by a code and in the words of its libraries. These do
not tell an expired certificate from one for another name: of TLS a handshake of our own asks that
broker again. Nothing of it is done while all goes well.
"""

import re
import socket
import ssl
from contextlib import suppress
from typing import Any, Final

from relay.buffer.kafka.own_certificate import look_at_own
from relay.config.fleet import SYSTEM_AUTHORITIES, FleetConfig

HANDSHAKE_SECONDS: Final = 2.0
ALERT_SECONDS: Final = 0.5  # a server of TLS 1.3 refuses a client's certificate after the handshake
_PLACE = re.compile(r"\w+://(?P<place>\S+:\d+)/\S+: ")
_TIMES = re.compile(r" \(after \d+ms in state \w+\)$")
_MECHANISMS = re.compile(r"mechanism handshake failed: .*supported mechanisms: *(?P<list>\S*)")
_REFUSING: Final = ("_AUTHENTICATION", "_SSL")
_RELOAD: Final = "then reload the relay"
# By OpenSSL's numbers of X509_verify_cert errors, as SSLCertVerificationError.verify_code has them.
_CERTIFICATES: Final = {
    9: "is not valid yet: check this machine's clock",
    10: "has expired: have it renewed there, or check this machine's clock if it has not",
    **dict.fromkeys(
        (62, 64),
        "is for another name: use a name that it holds in fleet.brokers and in advertised.listeners"
        " of the broker, or have it reissued",
    ),
}


class BrokersAway(Exception):
    """No broker answers, or none that may say what was asked; its text is for people."""


class BrokersRefuse(BrokersAway):
    """One answers, and does not let this relay in as it comes."""


class Access:
    """Hears what a client says of its connections, and explains it."""

    def __init__(self) -> None:
        self._errors: dict[str, Any] = {}  # the last of each broker

    def heard(self, error: Any) -> None:
        """What the client says; its `error_cb`."""
        found = _PLACE.match(error.str())
        if found is not None:
            self._errors[found["place"]] = error

    def forget(self) -> None:
        """A broker has answered."""
        self._errors.clear()

    def is_refused(self, fleet: FleetConfig) -> bool:
        """Whether none that is named in the configuration lets this relay in."""
        return all(
            each in self._errors and _is_refusal(self._errors[each]) for each in fleet.brokers
        )

    def explain(self, fleet: FleetConfig, said: str) -> BrokersAway:
        """What is wrong, where nobody answered and the client `said` no more than that.

        Asks a broker where the client's words do not tell enough: some seconds, in a thread.
        """
        errors = sorted(self._errors.items(), key=lambda each: not _is_refusal(each[1]))
        if not errors:
            return _of_silence(fleet, fleet.brokers[0], said)
        place, error = errors[0]
        said = _TIMES.sub("", _PLACE.sub("", error.str(), count=1))
        if error.name() == "_AUTHENTICATION":
            return BrokersRefuse(_of_account(fleet, place, said))
        wrong = tls_fault(fleet, place) if fleet.ca_file is not None else ""
        if wrong:
            return BrokersRefuse(wrong)
        if error.name() == "_SSL":
            return BrokersRefuse(f"no TLS with {place}: {said}")
        return BrokersAway(f"no broker answers: {place}: {said}")


def _is_refusal(error: Any) -> bool:
    """Also of TLS 1.3, where brokers refuse a client's certificate after the handshake."""
    return error.name() in _REFUSING or "SSL routines" in error.str()


def _of_silence(fleet: FleetConfig, place: str, said: str) -> BrokersAway:
    """The client has nothing to say of a listener that wants TLS or an account, and gets none."""
    if fleet.ca_file is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            _shake_hands(context, place)
            return BrokersRefuse(f'{place} wants TLS: set fleet.ca_file (a PEM file, or "system")')
        except ssl.SSLError:  # it answers, and not by TLS
            if fleet.sasl is None:
                words = f"{place} closes connections: if it asks for accounts, set fleet.sasl"
                return BrokersAway(f"no broker answers: {said}; {words}")
        except OSError:
            pass
    return BrokersAway(f"no broker answers: {said}")


def _of_account(fleet: FleetConfig, place: str, said: str) -> str:
    if fleet.sasl is None:
        return f"{place} wants an account: set fleet.sasl ({said})"
    mechanism = fleet.sasl.mechanism
    found = _MECHANISMS.search(said)
    if found is None:
        return (
            f"{place} refuses the account {fleet.sasl.username} by {mechanism}: put username and "
            f"password of fleet.sasl right, {_RELOAD} ({said})"
        )
    if found["list"]:
        takes = found["list"].replace(",", ", ")
        return f"{place} does not take {mechanism}, but {takes}: set mechanism of fleet.sasl"
    return (
        f"{place} is a listener without accounts: name the port of one that asks for them, or "
        "remove fleet.sasl"
    )


def tls_fault(fleet: FleetConfig, place: str) -> str:
    """What is wrong with TLS between this relay and a broker, by a handshake; empty for nothing."""
    try:
        _shake_hands(_context(fleet), place)
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {place} {_of_certificate(fleet, error)}"
    except ssl.SSLError as error:
        return _of_alert(fleet, place, error)
    except OSError:
        return ""
    return ""


def _shake_hands(context: ssl.SSLContext, place: str) -> None:
    """Connect, and wait for a moment whether it is broken off. Raises SSLError, OSError."""
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    with (
        socket.create_connection((host, int(port)), HANDSHAKE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.settimeout(ALERT_SECONDS)
        with suppress(TimeoutError):
            secure.recv(1)


def _context(fleet: FleetConfig) -> ssl.SSLContext:
    own = None if fleet.ca_file == SYSTEM_AUTHORITIES else fleet.ca_file
    context = ssl.create_default_context(cafile=own)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which the client does not ask for either
    if fleet.client_cert and fleet.client_key:
        context.load_cert_chain(fleet.client_cert, fleet.client_key, password=b"")
    return context


def _of_certificate(fleet: FleetConfig, error: ssl.SSLCertVerificationError) -> str:
    known = _CERTIFICATES.get(error.verify_code)
    if known is not None:
        return known
    trusted = "this host" if fleet.ca_file == SYSTEM_AUTHORITIES else str(fleet.ca_file)
    return (
        f"is not signed by an authority of {trusted} ({error.verify_message}): "
        f"set fleet.ca_file to the authority of the brokers, {_RELOAD}"
    )


def _of_alert(fleet: FleetConfig, place: str, error: ssl.SSLError) -> str:
    reason = (error.reason or "no reason given").replace("_", " ").lower()
    if "alert" not in reason:
        return (
            f"{place} does not speak TLS ({reason}): name the port of a listener that does, or "
            "remove fleet.ca_file"
        )
    if fleet.client_cert is None:
        return (
            f"{place} wants a client certificate: set fleet.client_cert and fleet.client_key, "
            f"{_RELOAD} ({reason})"
        )
    wrong = look_at_own(fleet).wrong or "must be signed by an authority that the brokers trust"
    return f"{place} does not accept fleet.client_cert ({reason}): {fleet.client_cert} {wrong}"
