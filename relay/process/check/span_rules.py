"""The rules for ids of spans and links, one span after another: the same in both encodings.

Only requests come here that hold an id which is not normal.
"""

from functools import partial
from typing import Any, Final, NamedTuple

from relay.model.reasons import Reason
from relay.otlp.json import JsonRequest
from relay.otlp.json_values import Tally
from relay.otlp.protobuf import ProtobufRequest, take_out
from relay.process.check.form import Form
from relay.process.check.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, MalformedIds, derive, is_derived
from relay.process.check.rejections import Rejections, rejections_of

_MOST_DROPPED: Final = 2**32 - 1


class Id(NamedTuple):
    """One id of a record: its name in JSON, and the reason for each flaw that rejects a span."""

    member: str
    size: int
    original: str  # the attribute that keeps what a derived id was made from
    malformed: Reason
    missing: Reason | None = None
    zero: Reason | None = None


IDS: Final = (
    Id(
        "traceId",
        TRACE_ID_BYTES,
        "relay.original_trace_id",
        Reason.TRACE_ID_MALFORMED,
        Reason.TRACE_ID_MISSING,
        Reason.TRACE_ID_ZERO,
    ),
    Id(
        "spanId",
        SPAN_ID_BYTES,
        "relay.original_span_id",
        Reason.SPAN_ID_MALFORMED,
        Reason.SPAN_ID_MISSING,
        Reason.SPAN_ID_ZERO,
    ),
    Id(
        "parentSpanId",
        SPAN_ID_BYTES,
        "relay.original_parent_span_id",
        Reason.PARENT_SPAN_ID_MALFORMED,
    ),
)


class Settle:
    """Makes the ids of one scope's records good where that is allowed."""

    def __init__(self, form: Form, warnings: Tally, *, derives: bool) -> None:
        """`derives`: a malformed id becomes a derived one."""
        self.form = form
        self.warnings = warnings
        self.derives = derives

    def record(self, record: Any) -> tuple[str, str] | None:
        """Settle a record; the reason and the member at fault when it must go, left as it was."""
        raise NotImplementedError


class SettleSpan(Settle):
    """A malformed id that is not derived rejects its span, and takes out a link."""

    def record(self, record: Any) -> tuple[str, str] | None:
        """Settle all ids of a span and its links."""
        form = self.form
        raws = [getattr(record, name) for name in form.ids]
        for raw, each in zip(raws, IDS, strict=True):
            if each.missing and not raw:
                return each.missing, each.member
        settled = []
        originals = []
        for raw, each in zip(raws, IDS, strict=True):
            made = form.read(raw, each.size)
            if made is None:
                if not self.derives:
                    return each.malformed, each.member
                source, text = form.original(raw)
                made = derive(source, each.size)
                originals.append((each.original, text))
            if made and not any(made):
                if each.zero:
                    return each.zero, each.member
                made = b""  # a parent all zero is none
            settled.append(made)
        for name, made in zip(form.ids, settled, strict=True):
            setattr(record, name, form.write(made))
        for key, text in originals:
            form.add_attribute(record, key, text)
        if originals:
            self.warnings["ids_derived"] += 1
        if record.links:
            self._links(record)
        return None

    def _links(self, span: Any) -> None:
        """Take links out whose ids are neither empty nor right: peers refuse batches for them."""
        form = self.form
        bad = []
        for index, link in enumerate(span.links):
            raws = [getattr(link, name) for name in form.ids[:2]]
            ids = [form.read(raw, each.size) for raw, each in zip(raws, IDS, strict=False)]
            if None in ids:
                if not self.derives:
                    bad.append(index)
                    continue
                self.warnings["ids_derived"] += 1
            for name, raw, made, each in zip(form.ids, raws, ids, IDS, strict=False):
                if made is None:
                    made = derive(form.original(raw)[0], each.size)  # noqa: PLW2901
                setattr(link, name, form.write(made))
        if bad:
            take_out(span.links, bad)
            dropped = getattr(span, form.dropped_links) + len(bad)
            setattr(span, form.dropped_links, min(dropped, _MOST_DROPPED))
            self.warnings["link_ids_malformed"] += len(bad)


def check_each(
    request: JsonRequest | ProtobufRequest, mode: MalformedIds, form: Form, settle: type[Settle]
) -> Rejections:
    """Take out every span or log record that must be rejected, settle the ids of the others."""
    rejected = rejections_of(request)
    lists = request.wire.lists[request.encoding]
    for i, entry in enumerate(request.entries):
        service = request.resources[i].service
        for j, scope in enumerate(getattr(entry, lists.scopes)):
            derives = is_derived(mode, service, getattr(scope.scope, "name", ""))
            of_scope = settle(form, request.findings.warnings, derives=derives)
            records = getattr(scope, lists.records)
            bad = []
            for k, record in enumerate(records):
                flaw = of_scope.record(record)
                if flaw is not None:
                    bad.append(k)
                    trace_id = getattr(record, form.ids[0])
                    fragment = partial(request.fragment_of, i, scope, record)
                    rejected.add(flaw, (i, j, k), trace_id, fragment)
            take_out(records, bad)
    request.changed()
    return rejected
