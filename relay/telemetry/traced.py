"""The two places that make own spans, as wrappers: without own traces they are not there."""

import time
from collections.abc import Awaitable, Callable, Mapping

from relay.config import DestinationConfig
from relay.model.errors import RelayError
from relay.model.records import Encoding, Sender, SenderResponse, Signal
from relay.otlp.signals import WIRE
from relay.telemetry.own_spans import CLIENT, SERVER, OwnSpans, Value
from relay.upstream import outcomes
from relay.upstream.exchange import Body, Upstream

_UNAVAILABLE = 503  # what the sender is told while nothing can be kept

Accept = Callable[[bytes, Encoding, Sender, Signal], Awaitable[SenderResponse]]


def traced_accept(accept: Accept, own: OwnSpans | None) -> Accept:
    """`accept`, with a span for each request that came from no other relay."""
    if own is None:
        return accept

    async def traced(
        body: bytes, encoding: Encoding, sender: Sender, signal: Signal
    ) -> SenderResponse:
        if sender.hops:
            return await accept(body, encoding, sender, signal)
        start_ns, size = time.time_ns(), len(body)
        said: dict[str, Value] = {
            "http.request.method": "POST",
            "http.route": WIRE[signal].path,
            "http.request.body.size": size,
            "client.address": sender.address,
            "user_agent.original": sender.user_agent,
            "otlp_relay.signal": signal.word,
            "otlp_relay.encoding": encoding.name.lower(),
        }
        name = f"POST {WIRE[signal].path}"
        try:
            response = await accept(body, encoding, sender, signal)
        except RelayError as error:
            said["error.type"] = error.code
            said["http.response.status_code"] = getattr(error, "status", _UNAVAILABLE)
            own.record(name, SERVER, start_ns, said, error=error.message)
            raise
        said["http.response.status_code"] = response.status
        said["otlp_relay.rejected_items"] = response.rejected_items
        own.record(name, SERVER, start_ns, said)
        return response

    return traced


class TracedUpstream(Upstream):
    """An upstream of which each exchange makes a span."""

    def __init__(self, settings: DestinationConfig, own: OwnSpans, *, hops: str) -> None:
        super().__init__(settings, hops=hops)
        self._own = own
        self._destination, self._signal = settings.name, settings.signal

    async def send(self, body: Body, headers: Mapping[str, str]) -> outcomes.Outcome:
        """As `Upstream.send`."""
        start_ns = time.time_ns()
        outcome = await super().send(body, headers)
        said: dict[str, Value] = {
            "http.request.method": "POST",
            "http.request.body.size": body.size,
            "otlp_relay.destination": self._destination,
            "otlp_relay.signal": self._signal.word,
            "otlp_relay.items": body.items,
            "otlp_relay.encoding": body.encoding.name.lower(),
            "otlp_relay.outcome": type(outcome).__name__.lower(),
        }
        error = None
        if isinstance(outcome, outcomes.Wait | outcomes.Blocked):
            error = outcome.reason
        if not isinstance(outcome, outcomes.Unsent) and outcome.status:
            said["http.response.status_code"] = outcome.status
        self._own.record(f"deliver {self._destination}", CLIENT, start_ns, said, error=error)
        return outcome


def traced_upstreams(
    own: OwnSpans | None, traces_to: str, hops: str
) -> Callable[[DestinationConfig], Upstream]:
    """What makes an upstream of a destination; traces that go to `traces_to` make no spans."""

    def make(settings: DestinationConfig) -> Upstream:
        if own is None or (settings.name == traces_to and settings.signal is Signal.TRACES):
            return Upstream(settings, hops=hops)
        return TracedUpstream(settings, own, hops=hops)

    return make
