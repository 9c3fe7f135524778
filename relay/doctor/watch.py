"""The steps name, TCP and TLS of the connection test: what was seen of the first connection."""

import ssl
from collections.abc import Mapping, Sequence

from relay.config import DestinationConfig, ListenAddress
from relay.doctor import loops
from relay.doctor.report import Recorder
from relay.model.certificate import EXPIRES_SOON_DAYS, days_left
from relay.otlp.signals import WIRE
from relay.upstream.connection import Progress
from relay.upstream.dial import Watch
from relay.upstream.explain import words_of
from relay.upstream.routes import Place, Route

# A host that is there answers in far less; a firewall that drops packets never does.
CONNECT_SECONDS = 10.0


class StepWatch(Watch):
    """Notes the first connection in `record`; refuses any that leads to a listener of our own."""

    def __init__(
        self,
        destination: DestinationConfig,
        own_addresses: Sequence[ListenAddress],
        record: Recorder,
    ) -> None:
        self.stage_seconds = min(destination.timeout_seconds, CONNECT_SECONDS)
        self._shown_endpoint = destination.shown_endpoint
        self._items = WIRE[destination.signal].items
        self._own_addresses = own_addresses
        self._record: Recorder | None = record

    def resolved(self, route: Route, progress: Progress) -> None:
        """Raises StepFailed for a loop."""
        place = route.proxy or route.place
        if route.proxy is None and loops.leads_home(
            progress.addresses, place.port, self._own_addresses
        ):
            raise loops.own_listener(self._shown_endpoint)
        is_address = progress.addresses == [place.host]
        what = "an address" if is_address else ", ".join(progress.addresses)
        if self._record is not None:
            self._record.ok("name", f"{_through(route, said_why=True)}{place.host} is {what}")

    def connected(self, route: Route, progress: Progress) -> None:
        """Name the address that took it, and what became of those before."""
        port = (route.proxy or route.place).port
        found = [f"connected to {Place(progress.address, port)}"]
        found += [f"{each} {words_of(error)}" for each, error in progress.failures.items()]
        if self._record is not None:
            self._record.ok("tcp", _through(route) + "; ".join(found))

    def secured(self, route: Route, tls: ssl.SSLObject | None) -> None:
        """Whose certificate it is and how long it lasts. Later connections are not noted."""
        record, self._record = self._record, None
        if record is None:
            return
        if tls is None:
            note = (
                f"the endpoint begins with http://: headers and {self._items} travel in the clear"
            )
            is_here = route.settings.is_loopback
            record.add("tls", "skipped", "this machine: not needed" if is_here else note)
            return
        certificate = tls.getpeercert() or {}
        said = [str(tls.version()), *_subject(certificate)]
        left = days_left(certificate)
        if left is not None:
            said.append(f"expires in {left} days")
        is_soon = left is not None and left < EXPIRES_SOON_DAYS
        record.add("tls", "warning" if is_soon else "ok", ", ".join(said))


def _through(route: Route, *, said_why: bool = False) -> str:
    """The proxy, if there is one, and what made it one."""
    if route.proxy is None:
        return ""
    why = ""
    if said_why and route.proxy_setting != "proxy":
        why = f' ({route.proxy_setting} names it; proxy = "none" turns it off)'
    return f"through the proxy {route.proxy}{why}: "


def _subject(certificate: Mapping[str, object]) -> list[str]:
    """Whose certificate it is and who signed it."""
    said = []
    for key, words in (("subject", "certificate of"), ("issuer", "by")):
        names = dict(pair for part in certificate.get(key, ()) for pair in part)  # type: ignore[attr-defined]
        name = names.get("commonName") or names.get("organizationName")
        if name:
            said.append(f"{words} {name}")
    return [" ".join(said)] if said else []
