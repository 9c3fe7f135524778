"""The rules for log records: ids are optional and never reject one, and each gets a time.

A receiver that finds an invalid id should take the record as one without a trace (logs.proto), but
some refuse the whole body: so an id that is malformed becomes an attribute. A record without any
time would get that of its delivery upstream, after an outage hours later, or 1970.
"""

from operator import attrgetter
from typing import Any

from relay.model.errors import TooHeavy
from relay.otlp.json import JsonRequest
from relay.otlp.protobuf import ProtobufRequest
from relay.process.check.clock import are_near, warn_of_clocks
from relay.process.check.form import FORMS, Form
from relay.process.check.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, MalformedIds, derive
from relay.process.check.rejections import NONE_REJECTED, Rejections
from relay.process.check.span_rules import IDS, Settle, check_each
from relay.process.check.weight import MOST_FLAWED


def check_logs(
    request: JsonRequest | ProtobufRequest,
    mode: MalformedIds,
    now_ns: int,
    *,
    is_bounded: bool,
) -> Rejections:
    """Settle ids and times of log records.

    Raises TooHeavy if it `is_bounded` and too many would have to be settled one by one.
    """
    records = request.records
    if not records:
        return NONE_REJECTED
    form = FORMS[request.encoding]
    _settle_times(request, form, now_ns)
    trace_ids = [raw for raw in map(attrgetter(form.ids[0]), records) if raw]
    span_ids = [raw for raw in map(attrgetter(form.ids[1]), records) if raw]
    if form.are_normal(trace_ids, TRACE_ID_BYTES) and form.are_normal(span_ids, SPAN_ID_BYTES):
        return NONE_REJECTED
    if is_bounded and len(records) > MOST_FLAWED:
        raise TooHeavy
    return check_each(request, mode, form, _SettleLog)


def _settle_times(request: JsonRequest | ProtobufRequest, form: Form, now_ns: int) -> None:
    records = request.records
    times = list(map(attrgetter(form.time), records))
    if form.no_time in times:
        is_changed = False
        for index, record in enumerate(records):
            if times[index] != form.no_time:
                continue
            times[index] = getattr(record, form.observed_time)
            if times[index] == form.no_time:
                times[index] = form.write_time(now_ns)
                setattr(record, form.observed_time, times[index])
                is_changed = True
        if is_changed:
            request.changed()
    numbers = list(map(int, times))
    if not are_near(min(numbers), max(numbers), now_ns):
        warn_of_clocks(numbers, now_ns, request.findings.warnings)


class _SettleLog(Settle):
    """An id that is malformed is derived, or taken out; its text stays as an attribute."""

    def record(self, record: Any) -> None:
        """Settle both ids of a log record, which neither rejects it."""
        form = self.form
        for name, each in zip(form.ids, IDS[:2], strict=False):
            raw = getattr(record, name)
            made = form.read(raw, each.size)
            if made is None:
                source, text = form.original(raw)
                made = derive(source, each.size) if self.derives else b""
                form.add_attribute(record, each.original, text)
                self.warnings["ids_derived" if self.derives else "log_ids_malformed"] += 1
            if not any(made):
                made = b""  # all zero is none
            setattr(record, name, form.write(made))
