"""Spans of the relay itself: made, kept for a few seconds, sent."""

import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import msgspec
import structlog

from relay.config import DestinationConfig, resolve_headers
from relay.model.errors import ConfigError
from relay.model.records import Encoding, Signal
from relay.otlp.signals import WIRE
from relay.otlp.transcode import to_protobuf
from relay.upstream import outcomes
from relay.upstream.exchange import Body, Upstream
from relay.version import __version__

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

SEND_SECONDS: Final = 5.0
MOST_KEPT: Final = 2048
MOST_A_SECOND: Final = 20  # of one name
_SAY_AGAIN_SECONDS: Final = 600.0
SERVER: Final = 2  # Span.SpanKind, as OTLP numbers it
CLIENT: Final = 3
_ERROR: Final = 2  # Status.StatusCode

Value = str | int | float
# The destination as it is configured now; None when it is gone, or gets no traces any more.
Where = Callable[[], DestinationConfig | None]


class OwnSpans:
    """Takes spans from whoever has something to tell, and sends them. `record` never waits."""

    def __init__(
        self,
        where: Where,
        environ: Mapping[str, str],
        own_id: str,
    ) -> None:
        self._where = where
        self._environ = environ
        self._own_id = own_id
        self._spans: deque[dict[str, Any]] = deque(maxlen=MOST_KEPT)
        self._second = 0
        self._made: dict[str, int] = {}  # of each name in that second
        self._omitted: dict[str, int] = {}
        self._says_again_at = 0.0
        self._resource = [
            _pair("service.name", "otlp-relay"),
            _pair("service.version", __version__),
            _pair("service.instance.id", own_id),
            _pair("host.name", socket.gethostname()),
        ]

    def record(
        self,
        name: str,
        kind: int,
        start_ns: int,
        attributes: Mapping[str, Value],
        *,
        error: str | None = None,
    ) -> None:
        """A span that began at `start_ns` and ends now; with `error` it failed, for that reason."""
        end_ns = time.time_ns()
        second = end_ns // 1_000_000_000
        if second != self._second:
            self._second = second
            self._made.clear()
        made = self._made[name] = self._made.get(name, 0) + 1
        if made > MOST_A_SECOND:
            self._omitted[name] = self._omitted.get(name, 0) + 1
            return
        pairs = [_pair(key, value) for key, value in attributes.items() if value != ""]
        if omitted := self._omitted.pop(name, 0):
            pairs.append(_pair("otlp_relay.omitted_spans", omitted))
        span = {
            "traceId": secrets.token_hex(16),
            "spanId": secrets.token_hex(8),
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(start_ns),
            "endTimeUnixNano": str(max(end_ns, start_ns)),
            "attributes": pairs,
        }
        if error is not None:
            span["status"] = {"code": _ERROR, "message": error}
        self._spans.append(span)

    async def run(self) -> None:
        """Send what there is every few seconds, until cancelled."""
        upstream: Upstream | None = None
        while True:
            await anyio.sleep(SEND_SECONDS)
            destination = self._where()
            if not self._spans:
                continue
            if destination is None:
                self._spans.clear()
                continue
            if upstream is None:
                upstream = Upstream(destination, hops=self._own_id)
            else:
                upstream.update(destination)
            await self._send(upstream, destination)
            await upstream.aclose()

    async def _send(self, upstream: Upstream, destination: DestinationConfig) -> None:
        spans = list(self._spans)
        self._spans.clear()
        try:
            headers = resolve_headers(destination, self._environ)
        except ConfigError as error:
            self._say(destination.name, error.message, len(spans))
            return
        outcome = await upstream.send(self._body(spans, destination), headers)
        if isinstance(outcome, outcomes.Wait | outcomes.Blocked):
            self._say(destination.name, outcome.reason, len(spans))

    def _body(self, spans: list[dict[str, Any]], destination: DestinationConfig) -> Body:
        scope = {"scope": {"name": "otlp-relay", "version": __version__}, "spans": spans}
        entry = {"resource": {"attributes": self._resource}, "scopeSpans": [scope]}
        fragment = msgspec.json.encode(entry)
        if destination.encoding == "json":
            content = WIRE[Signal.TRACES].json_request % fragment
            return Body(encoding=Encoding.JSON, content=content, items=len(spans))
        content = to_protobuf(fragment, Signal.TRACES)
        return Body(encoding=Encoding.PROTOBUF, content=content, items=len(spans))

    def _say(self, destination: str, reason: str, count: int) -> None:
        now = time.monotonic()
        if now >= self._says_again_at:
            self._says_again_at = now + _SAY_AGAIN_SECONDS
            log.warning("own_spans_dropped", destination=destination, spans=count, reason=reason)


def _pair(key: str, value: Value) -> dict[str, Any]:
    if isinstance(value, str):
        return {"key": key, "value": {"stringValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"doubleValue": value}}
