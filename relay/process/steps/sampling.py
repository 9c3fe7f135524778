"""The step that sends a share of all traces, and those whole that hold something worth keeping.

`Sample` is the filter, `Mark` the edit behind it: a span that is there by chance says in its
`tracestate` how many it stands for. One that is there because its trace is kept stands for itself.

Which traces are kept is found out by `Scout`, over rows that are looked at before any is sent.
"""

from typing import Any, Final

from relay.model.records import Encoding, Signal
from relay.otlp.messages import AnyValue
from relay.otlp.opened import Group, Opened
from relay.process.sample.kept_traces import KeptTraces
from relay.process.sample.probability import RatioSampler
from relay.process.steps.condition import Condition

NAME: Final = "sample"


class Scout:
    """Puts the traces into `kept` that hold a span for which `condition` holds."""

    def __init__(self, condition: Condition, kept: KeptTraces) -> None:
        self.condition = condition
        self.kept = kept

    def look(self, opened: Opened, received_ns: int) -> None:
        """Look at spans received then, by the clock of `kept`; at log records not."""
        if opened.signal is not Signal.TRACES:
            return
        for group in opened.groups:
            for item in group.items:
                if self.condition(group, item):
                    self.kept.add(bytes.fromhex(trace_id_of(group, item)), received_ns)


class Sample:
    """Keeps a trace by its random bits, or if `scout` found it worth keeping. What is of no trace
    stays: a log record without an id.

    With `sees_all` what it is run over is all there is of its traces: no scout was there before.
    """

    name = NAME

    def __init__(self, ratio: float, scout: Scout | None, *, sees_all: bool) -> None:
        self._sampler = RatioSampler(ratio)
        self._kept = scout.kept if scout is not None else KeptTraces()
        self._own_scout = scout if sees_all else None
        self.condition = scout.condition if scout is not None else None

    def look(self, opened: Opened) -> None:
        """Find out which traces are kept, where nobody did before."""
        if self._own_scout is not None:
            self._own_scout.look(opened, 0)

    def keeps(self, group: Group, item: Any) -> bool:
        """Whether the trace of `item` is sent."""
        trace_id = trace_id_of(group, item)
        if not trace_id:
            return True
        return self._sampler.keeps(trace_id, state_of(group, item)) or (
            bytes.fromhex(trace_id) in self._kept
        )


class Mark:
    """Writes into spans that are there by chance by which threshold they are."""

    name = NAME
    gives_up_unknown = False

    def __init__(self, ratio: float, scout: Scout | None) -> None:
        self._sampler = RatioSampler(ratio)
        self._kept = scout.kept if scout is not None else KeptTraces()

    def resource(self, _group: Group) -> bool:
        """Nothing."""
        return False

    scope = metric = resource

    def deep(self, _value: AnyValue) -> bool:
        """Nothing."""
        return False

    def item(self, group: Group, item: Any) -> bool:
        """Write the threshold into a span, unless its trace is kept."""
        if group.signal is not Signal.TRACES:
            return False
        trace_id, state = trace_id_of(group, item), state_of(group, item)
        if not self._sampler.keeps(trace_id, state) or bytes.fromhex(trace_id) in self._kept:
            return False
        marked = self._sampler.marked(trace_id, state)
        if group.encoding is Encoding.JSON:
            item.traceState = marked
        else:
            item.trace_state = marked
        return marked != state


def trace_id_of(group: Group, item: Any) -> str:
    """The trace id of a span or log record, as hexadecimal digits; empty where there is none."""
    if group.encoding is Encoding.JSON:
        written: str = item.traceId
        return written
    packed: bytes = item.trace_id
    return packed.hex()


def state_of(group: Group, item: Any) -> str:
    """The `tracestate` of a span; log records have none."""
    if group.signal is not Signal.TRACES:
        return ""
    state: str = item.traceState if group.encoding is Encoding.JSON else item.trace_state
    return state
