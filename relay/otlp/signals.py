"""What tells one signal of OTLP/HTTP from another on the wire: one entry a signal.

A fragment, as rows hold it, is the inside of a request's one list; `json_request` is the request
around it. In protobuf a fragment is a request by itself.
"""

from typing import Final, NamedTuple

from relay.model.records import Signal


class SignalWire(NamedTuple):
    """How a signal is sent: where to, in which JSON member, and what people call its items."""

    signal: Signal
    path: str
    json_member: str
    item: str
    items: str

    def json_request(self, fragment: bytes) -> bytes:
        """The request in JSON that holds `fragment`, comma-joined entries."""
        return b'{"%b":[%b]}' % (self.json_member.encode(), fragment)


TRACES: Final = SignalWire(Signal.TRACES, "/v1/traces", "resourceSpans", "span", "spans")
