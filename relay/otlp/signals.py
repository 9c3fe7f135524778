"""What tells one signal of OTLP/HTTP from another on the wire: one entry a signal.

A fragment, as rows hold it, is the inside of a request's one list. In protobuf a fragment is a
request by itself; in JSON `json_request % fragment` is.
"""

from typing import Final, NamedTuple


class SignalWire(NamedTuple):
    """Where a signal is posted to, and the request in JSON around a fragment."""

    path: str
    json_request: bytes


TRACES: Final = SignalWire("/v1/traces", b'{"resourceSpans":[%b]}')
