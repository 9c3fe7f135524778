"""Tells what the steps of a destination make of a trace, from what is kept of it.

A row is settled as a whole, with the items of other traces in it: what became of those of one trace
is not written down for each, and told again from the items themselves, under the present settings.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from relay.buffer.backlog_name import BacklogName
from relay.config import DestinationConfig
from relay.model.errors import ConfigError
from relay.model.records import Encoding, Signal, StoredRow
from relay.otlp.trace_items import entries_of_trace
from relay.otlp.transcode import TranscodeError

SAMPLE: Final = "sample"  # its filter, and the mark that it leaves


class Stepped(NamedTuple):
    """What the steps of a destination make of a trace.

    Where nothing of it is for the destination, `step` says so, for the reason `words`; else both
    are empty. `changed_by` are the steps that change what is sent of it.
    """

    step: str = ""
    words: str = ""
    changed_by: tuple[str, ...] = ()


def stepped(
    trace_ids: Iterable[bytes], rows: Sequence[StoredRow], views: Iterable[DestinationConfig]
) -> Mapping[BacklogName, Stepped]:
    """What is made of what `rows` hold of these traces, by destination: of `views`, those with
    steps.

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
        made = _step(view, fragment, fragments[Signal.TRACES]) if fragment else None
        if made is not None:
            found[BacklogName(view.name, view.signal)] = made
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


def _step(view: DestinationConfig, fragment: bytes, spans: bytes) -> Stepped | None:
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
        made = None if steps is None else steps.run(fragment, Encoding.JSON, view.signal)
    except (ConfigError, TranscodeError):
        return None
    if made is None:
        return None
    if made.items:
        return Stepped(changed_by=tuple(sorted(made.changed.keys() - {SAMPLE})))
    step = made.fates[-1] if made.filtered else ""
    return Stepped(step, _words(view, step))


def _words(view: DestinationConfig, step: str) -> str:
    if step == SAMPLE:
        return f"sampled out (ratio {view.sample.ratio:g})"
    if step == "match":
        return "it does not match"
    return "its steps say it is not for it" if step else ""
