"""A trace in one line: its root, how long it took, how many spans, whether one failed. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from relay.model.units import iso
from relay.view.items import Placed, is_error

MOST_CHARACTERS: Final = 200
_MOST_SERVICES: Final = 10


SpanKey = tuple[str, str]


class Times(NamedTuple):
    """The first start and the last end, nanoseconds since the epoch; 0 where none is known."""

    start_ns: int
    end_ns: int


def key_of(span: Placed) -> SpanKey:
    """What tells a span from the others of its trace."""
    return span.record.spanId, span.record.name


def by_start(spans: Iterable[Placed]) -> list[Placed]:
    """The earliest start first."""
    return sorted(spans, key=lambda each: int(each.record.startTimeUnixNano))


def distinct(spans: Iterable[Placed]) -> list[Placed]:
    """Each span once, whatever was sent again, the earliest start first."""
    return by_start({key_of(each): each for each in spans}.values())


def root_of(spans: Sequence[Placed]) -> Placed:
    """The earliest span without a parent, else the earliest of all."""
    return next((each for each in spans if not each.record.parentSpanId), spans[0])


def times_of(spans: Iterable[Placed]) -> Times:
    """From the first start to the last end."""
    starts, ends = [0], [0]
    for each in spans:
        starts.append(int(each.record.startTimeUnixNano))
        ends.append(int(each.record.endTimeUnixNano))
    start_ns = min(filter(None, starts), default=0)
    return Times(start_ns, max(start_ns, *ends))


def summary_of(spans: Sequence[Placed]) -> dict[str, Any]:
    """The line of a trace, from all of its spans that were read, each once (`distinct`)."""
    root = root_of(spans)
    times = times_of(spans)
    services = dict.fromkeys(filter(None, (root.service, *(each.service for each in spans))))
    return {
        "trace_id": root.record.traceId,
        "name": root.record.name[:MOST_CHARACTERS],
        "is_root": not root.record.parentSpanId,
        "service": root.service[:MOST_CHARACTERS],
        "services": [each[:MOST_CHARACTERS] for each in services][:_MOST_SERVICES],
        "start": iso(times.start_ns),
        "start_ns": str(times.start_ns),
        "duration_ns": times.end_ns - times.start_ns,
        "spans": len(spans),
        "errors": sum(is_error(each.record) for each in spans),
    }
