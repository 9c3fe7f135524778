"""A request or a journal in; its numbers as JSON shows them out."""

import re
from collections.abc import Sequence
from typing import Any

from mockcollector.journal import Journal
from mockcollector.received import ReceivedRequest
from mockcollector.signals import Signal
from mockcollector.strangers import Stranger


def item_counts(request: ReceivedRequest) -> dict[str, Any]:
    """Its signal, how many items of each it has, and how many of them were accepted."""
    counted = {
        "spans": request.counted(Signal.TRACES),
        "log_records": request.counted(Signal.LOGS),
        "data_points": request.counted(Signal.METRICS),
    }
    return {
        "signal": request.signal,
        **{name: count for name, (count, _) in counted.items()},
        **{f"accepted_{name}": accepted for name, (_, accepted) in counted.items()},
    }


_SECRETS = re.compile(r"auth|token|key|secret|password|cookie|dsn", re.IGNORECASE)


def shown_headers(
    request: ReceivedRequest, secret_names: Sequence[str]
) -> list[tuple[str, str | None]]:
    """Its headers; None is the value of `secret_names` and of what is named like a secret."""
    secret = {name.lower() for name in secret_names}
    return [
        (name, None if name in secret or _SECRETS.search(name) else value)
        for name, value in request.headers
    ]


def wire_record(request: ReceivedRequest) -> dict[str, Any]:
    """On which connection it came, and when by the monotonic clock: texts, as all nanoseconds."""
    return {
        "connection": request.connection,
        "nth_on_connection": request.nth_on_connection,
        "peer": request.peer,
        "http_version": request.http_version,
        "tls_version": request.tls_version,
        "tls_subject": request.tls_subject,
        "began_ns": str(request.began_ns),
        "read_ns": str(request.read_ns),
        "settled_ns": str(request.settled_ns),
        "announced_bytes": request.announced_bytes,
    }


def stranger_record(stranger: Stranger) -> dict[str, Any]:
    """What reached the port and is no request."""
    return {
        "received_unix_nano": str(stranger.received_unix_nano),
        "kind": stranger.kind,
        "reason": stranger.reason,
        "peer": stranger.peer,
        "connection": stranger.connection,
    }


def counts_record(journal: Journal) -> dict[str, Any]:
    """The journal's numbers."""
    counts = journal.counts
    return {
        "requests": counts.requests,
        "connections": counts.connections,
        "spans_accepted": counts.spans_accepted,
        "duplicate_spans": journal.duplicate_spans,
        "spans_refused": counts.spans_refused,
        "log_records_accepted": counts.log_records_accepted,
        "log_records_refused": counts.log_records_refused,
        "data_points_accepted": counts.data_points_accepted,
        "data_points_refused": counts.data_points_refused,
        "wire_bytes": counts.wire_bytes,
        "decoded_bytes": counts.decoded_bytes,
        "answers": counts.answers,
        "strangers": counts.strangers,
    }
