"""The rules for ids of spans and links, one span after another: the same in both encodings.

Only requests come here that hold an id which is not normal. Spans are changed where they stand,
be they structs or official messages; a `Form` knows how one encoding holds its ids.
"""

from collections import Counter
from collections.abc import Callable, MutableSequence
from functools import partial
from typing import Any, Final, NamedTuple

from relay.model.reasons import Reason
from relay.otlp.json import JsonRequest
from relay.otlp.protobuf import ProtobufTraces
from relay.process.check.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, MalformedIds, derive, is_derived
from relay.process.check.rejections import Rejections

_MOST_DROPPED: Final = 2**32 - 1
_TAKEN_OUT_SINGLY: Final = 64


class _Id(NamedTuple):
    """One id of a span: its name in JSON, and the reason for each flaw that rejects the span."""

    member: str
    size: int
    original: str  # the attribute that keeps what a derived id was made from
    malformed: Reason
    missing: Reason | None = None
    zero: Reason | None = None


_IDS: Final = (
    _Id(
        "traceId",
        TRACE_ID_BYTES,
        "relay.original_trace_id",
        Reason.TRACE_ID_MALFORMED,
        Reason.TRACE_ID_MISSING,
        Reason.TRACE_ID_ZERO,
    ),
    _Id(
        "spanId",
        SPAN_ID_BYTES,
        "relay.original_span_id",
        Reason.SPAN_ID_MALFORMED,
        Reason.SPAN_ID_MISSING,
        Reason.SPAN_ID_ZERO,
    ),
    _Id(
        "parentSpanId",
        SPAN_ID_BYTES,
        "relay.original_parent_span_id",
        Reason.PARENT_SPAN_ID_MALFORMED,
    ),
)


class Form(NamedTuple):
    """How spans and links of one encoding hold their ids. `raw` is such an id, text or bytes."""

    ids: tuple[str, str, str]  # names of the members: the trace's id, the span's, its parent's
    scopes: str
    dropped_links: str
    read: Callable[[Any, int], bytes | None]
    """The id of a raw one and its size, empty if there is none; None if it is malformed."""
    write: Callable[[bytes], Any]
    """The raw form of an id."""
    original: Callable[[Any], tuple[bytes, str]]
    """A malformed raw id as the bytes to derive from, and as a person would write it."""
    add_attribute: Callable[[Any, str, str], None]
    """Put an attribute, its key and text, behind those of a span."""


class _Settle:
    """Makes the ids of one scope's spans good where that is allowed."""

    def __init__(self, form: Form, warnings: Counter[str], *, derives: bool) -> None:
        """`derives`: a malformed id becomes a derived one, or else its span is rejected."""
        self.form = form
        self.warnings = warnings
        self.derives = derives

    def span(self, span: Any) -> tuple[str, str] | None:
        """Settle all ids of a span; the reason and the member at fault when it must go.

        A span that goes is left as it was sent.
        """
        form = self.form
        raws = [getattr(span, name) for name in form.ids]
        for raw, each in zip(raws, _IDS, strict=True):
            if each.missing and not raw:
                return each.missing, each.member
        settled = []
        originals = []
        for raw, each in zip(raws, _IDS, strict=True):
            made = form.read(raw, each.size)
            if made is None:
                if not self.derives:
                    return each.malformed, each.member
                source, text = form.original(raw)
                made = derive(source, each.size)
                originals.append((each.original, text))
            elif made and not any(made):
                if each.zero:
                    return each.zero, each.member
                made = b""  # a parent all zero is none
            settled.append(made)
        for name, made in zip(form.ids, settled, strict=True):
            setattr(span, name, form.write(made))
        for key, text in originals:
            form.add_attribute(span, key, text)
        if originals:
            self.warnings["ids_derived"] += 1
        if span.links:
            self._links(span)
        return None

    def _links(self, span: Any) -> None:
        """Take links out whose ids are neither empty nor right: peers refuse batches for them."""
        form = self.form
        bad = []
        for index, link in enumerate(span.links):
            raws = [getattr(link, name) for name in form.ids[:2]]
            ids = [form.read(raw, each.size) for raw, each in zip(raws, _IDS, strict=False)]
            if None in ids:
                if not self.derives:
                    bad.append(index)
                    continue
                self.warnings["ids_derived"] += 1
            for name, raw, made, each in zip(form.ids, raws, ids, _IDS, strict=False):
                if made is None:
                    made = derive(form.original(raw)[0], each.size)  # noqa: PLW2901
                setattr(link, name, form.write(made))
        if bad:
            _take_out(span.links, bad)
            dropped = getattr(span, form.dropped_links) + len(bad)
            setattr(span, form.dropped_links, min(dropped, _MOST_DROPPED))
            self.warnings["link_ids_malformed"] += len(bad)


def _take_out(items: MutableSequence[Any], bad: list[int]) -> None:
    """Take out the items with these indices, which are in order."""
    if len(bad) <= _TAKEN_OUT_SINGLY:
        for index in reversed(bad):
            del items[index]
        return
    # Each deletion moves all that stands behind: with many of them it is cheaper to start anew.
    gone = set(bad)
    kept = [item for index, item in enumerate(items) if index not in gone]
    del items[:]
    items.extend(kept)


def check_each(traces: JsonRequest | ProtobufTraces, mode: MalformedIds, form: Form) -> Rejections:
    """Take out every span whose ids must reject it, settle the ids of the others."""
    rejected = Rejections(traces.wire, traces.encoding, traces.findings.unreadable)
    for i, entry in enumerate(traces.entries):
        service = traces.resources[i].service
        for j, scope in enumerate(getattr(entry, form.scopes)):
            derives = is_derived(mode, service, getattr(scope.scope, "name", ""))
            settle = _Settle(form, traces.findings.warnings, derives=derives)
            bad = []
            for k, span in enumerate(scope.spans):
                flaw = settle.span(span)
                if flaw is not None:
                    bad.append(k)
                    trace_id = getattr(span, form.ids[0])
                    fragment = partial(traces.fragment_of, i, scope, span)
                    rejected.add(flaw, (i, j, k), trace_id, fragment)
            _take_out(scope.spans, bad)
    traces.changed()
    return rejected
