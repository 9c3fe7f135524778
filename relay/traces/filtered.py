"""Tells whether a trace is for a destination, by the destination's steps and what is kept of it.

A row is settled as a whole, with the items of other traces in it: what became of those of one trace
is not written down for each, and told again from the items themselves, under the present settings.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from relay.buffer.backlog_name import BacklogName
from relay.config import DestinationConfig
from relay.model.errors import ConfigError
from relay.model.records import Encoding, Signal, StoredRow
from relay.otlp.trace_items import entries_of_trace
from relay.otlp.transcode import TranscodeError


class Left(NamedTuple):
    """Why nothing of a trace is for a destination: the step that says so, and in words."""

    step: str
    words: str


def left_out(
    trace_ids: Iterable[bytes], rows: Sequence[StoredRow], views: Iterable[DestinationConfig]
) -> Mapping[BacklogName, Left]:
    """The destinations, of `views`, for which nothing in `rows` of these traces is.

    Those are left out of which it cannot be told.
    """
    asked = [view for view in views if view.has_steps]
    if not asked or not rows:
        return {}
    try:
        fragments = {signal: _fragment(trace_ids, rows, signal) for signal in Signal}
    except TranscodeError:
        return {}
    found = {}
    for view in asked:
        fragment = fragments[view.signal]
        step = _step_against(view, fragment, fragments[Signal.TRACES]) if fragment else ""
        if step:
            words = "its steps say it is not for it"
            if step == "sample":
                words = f"sampled out (ratio {view.sample.ratio:g})"
            elif step == "match":
                words = "it does not match"
            found[BacklogName(view.name, view.signal)] = Left(step, words)
    return found


def _fragment(trace_ids: Iterable[bytes], rows: Sequence[StoredRow], signal: Signal) -> bytes:
    entries = [
        entry
        for trace_id in trace_ids
        for row in rows
        if row.signal is signal
        for entry in entries_of_trace(row, trace_id)
    ]
    return msgspec.json.encode(entries)[1:-1]


def _step_against(view: DestinationConfig, fragment: bytes, spans: bytes) -> str:
    """The step that speaks against every item; empty where some item goes on."""
    from relay.otlp.opened import Opened
    from relay.process.sample.kept_traces import KeptTraces
    from relay.process.steps.condition import Condition
    from relay.process.steps.run import steps_of
    from relay.process.steps.sampling import Scout

    scout = Scout(Condition(view.sample.keep or "false"), KeptTraces())
    if spans and view.sample.keeps_whole:
        scout.look(Opened(spans, Encoding.JSON, Signal.TRACES), 0)
    try:
        steps = steps_of(view, scout)
    except ConfigError:
        return ""
    fates = steps.fates(fragment, Encoding.JSON, view.signal) if steps is not None else []
    return fates[-1] if fates and all(fates) else ""
