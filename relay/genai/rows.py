"""The steps that a kept row tells of."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from relay.genai.items import logs_of, points_of, spans_of
from relay.genai.metric_steps import point_steps
from relay.genai.names import MARKS
from relay.genai.steps import Step, log_steps, span_steps
from relay.model.records import Signal, StoredRow
from relay.otlp import transcode
from relay.otlp.folding import MAX_PROTOBUF_LEVELS, replace_below
from relay.otlp.trace_items import json_fragment

Entries = list[Any]

# In both encodings keys stand in a body as they are.
_MARKS: Final = tuple(mark.encode() for mark in MARKS)
_READ: Final[dict[Signal, tuple[Callable[[Entries], Any], Callable[..., Iterator[Step]]]]] = {
    Signal.TRACES: (spans_of, span_steps),
    Signal.LOGS: (logs_of, log_steps),
    Signal.METRICS: (points_of, point_steps),
}


def may_tell(body: bytes) -> bool:
    """Whether a kept body may hold anything of GenAI: one without need not be decoded."""
    return any(mark in body for mark in _MARKS)


def steps_of(rows: Iterable[StoredRow], *, show_personal: bool = False) -> list[Step]:
    """The steps of some rows. One that cannot be read tells of none."""
    found: list[Step] = []
    for row in rows:
        if may_tell(row.body):
            read, steps = _READ[row.signal]
            found += steps(read(_entries(row)), show_personal=show_personal)
    return found


def _entries(row: StoredRow) -> Entries:
    """The entries of a row; values that lie too deep for the reader are empty then."""
    try:
        fragment = json_fragment(row)
        try:
            return transcode.decode_entries(fragment, row.signal)
        except RecursionError:
            shallow = replace_below(fragment, MAX_PROTOBUF_LEVELS, lambda _value: b"{}")
            return transcode.decode_entries(shallow, row.signal)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return []  # what is damaged, `otlp-relay buffer check` tells
