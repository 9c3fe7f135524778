"""Requests in OTLP/JSON: decoded into structs in normal form, encoded as fragments.

Two ways lead to the same structs. The fast way decodes typed, makes numbers normal and vouches
for nothing else; whatever it does not know (an unknown key, null, two members in one value, a
number that is out of range, broken text) goes the exact way, which decides and names paths.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from relay.model.records import Encoding, Piece, Signal
from relay.otlp import json_exact, json_tree, messages
from relay.otlp.cuts import SizedItem, group_items
from relay.otlp.json_points import normalise_metrics
from relay.otlp.json_values import (
    Findings,
    Unreadable,
    Unusual,
    are_single,
    has_second_member,
    normalise_logs,
    normalise_spans,
)
from relay.otlp.messages import KeyValue
from relay.otlp.messages_metrics import points_of, with_points
from relay.otlp.resources import KnownResource, ResourceCache, know_json
from relay.otlp.signals import TRACES, WIRE, Lists, SignalWire

NOT_FAST: Final = (ValueError, RecursionError, Unusual)
"""What `decode_fast` raises where it cannot vouch for a body."""

# From here on a look at the values of a span is cheaper than one through all of its text.
_LONG_SPAN_BYTES: Final = 4096

Weigh = Callable[[Any], None]


class _Form(NamedTuple):
    """What differs between signals in JSON: names, how to decode, how to make values normal."""

    wire: SignalWire
    names: Lists
    scopes_key: bytes
    frame_bytes: int
    least_list_bytes: int  # of one item that is empty, with the name of the list
    no_resource: Raw  # the default itself: told apart by identity
    decode: Callable[[bytes], Any]
    normalise: Callable[[list[Any], list[list[KeyValue]], Findings], None]
    is_metrics: bool


def _form(wire: SignalWire) -> _Form:
    names = wire.lists[Encoding.JSON]
    normalise: Mapping[Signal, Callable[..., None]] = {
        Signal.TRACES: normalise_spans,
        Signal.LOGS: normalise_logs,
        Signal.METRICS: normalise_metrics,
    }
    return _Form(
        wire=wire,
        names=names,
        scopes_key=b'"%b":' % names.scopes.encode(),
        frame_bytes=len(b'{"":[]}') + len(names.entries),
        least_list_bytes=len(b'"":[{}],') + len(names.records),
        no_resource=wire.entry().resource,  # type: ignore[attr-defined]
        decode=msgspec.json.Decoder(wire.json_request_struct).decode,
        normalise=normalise[wire.signal],
        is_metrics=wire.signal is Signal.METRICS,
    )


_FORMS: Final = {signal: _form(wire) for signal, wire in WIRE.items()}


class JsonRequest:
    """A decoded request. Whoever changes records says so with `changed`: texts are kept.

    `entries` are of resourceSpans (resourceLogs, resourceMetrics); `resources` stands parallel to
    them. `records` are all spans, log records or metrics in order. `findings` holds flags for the
    pieces and warnings by code. `normal_bytes` is how long a body of so much is in normal form, at
    least.
    """

    encoding: Final = Encoding.JSON
    body_bytes = 0
    """How long the body was; for who checks it."""

    def __init__(
        self,
        form: _Form,
        entries: list[Any],
        records: list[Any],
        resources: list[KnownResource],
        scope_texts: list[bytes],
        findings: Findings,
        normal_bytes: int,
    ) -> None:
        self.normal_bytes = normal_bytes
        self.wire = form.wire
        self.entries = entries
        self.resources = resources
        self.findings = findings
        self._form = form
        self.records = records
        self._scope_texts: list[bytes | None] = list(scope_texts)
        self._resource_texts = [
            b"" if _has_no_resource(entry, form) else known.normal
            for entry, known in zip(entries, resources, strict=True)
        ]

    def changed(self) -> None:
        """Records were changed or taken out: all texts are made anew."""
        self.records = _all_records(self.entries, self._form.names)
        self._scope_texts = [None] * len(self.entries)

    def count_items(self) -> int:
        """How many spans, log records or data points there are."""
        if self._form.is_metrics:
            return sum(len(points_of(metric)) for metric in self.records)
        return len(self.records)

    def has_lost_a_list(self, body: bytes) -> bool:
        """Whether a list of items stood twice in one object of `body`: the last one is decoded."""
        _, scopes_name, records_name = self._form.names
        lists = sum(len(getattr(entry, scopes_name)) for entry in self.entries)
        return _has_members(body, records_name, lists) or (
            self._form.is_metrics and _has_members(body, "dataPoints", len(self.records))
        )

    def fragment_of(self, index: int, scope: Any, record: Any) -> bytes:
        """A fragment with this record alone, its resource and scope around it."""
        alone = replace(scope, **{self._form.names.records: [record]})
        return self._entry_text(index, messages.encode([alone]))

    def fragment_as_sent(self, unreadable: Unreadable) -> bytes:
        """A fragment with what could not be read alone, its resource and scope around it.

        It is as it was sent, so reading it again ends likewise.
        """
        text = json_tree.write(unreadable.tree)
        index, *rest = unreadable.place
        if not rest:
            return text
        if len(rest) == 1:
            return self._entry_text(index, b"[%b]" % text)
        metric = unreadable.metric
        record = with_points(metric, [Raw(text)]) if metric else Raw(text)
        return self.fragment_of(
            index, getattr(self.entries[index], self._form.names.scopes)[rest[0]], record
        )

    def pieces(self, limit_bytes: int, resources: list[bytes] | None = None) -> tuple[Piece, ...]:
        """The request as fragments within the limit; none without items.

        `resources` are encoded resources to put in the place of its own, one an entry. What holds
        no item is left out. A single item that is larger than the limit stays whole.
        """
        if resources is not None:
            for index, encoded in enumerate(resources):
                if encoded != self.resources[index].normal:
                    self._resource_texts[index] = encoded
        self._drop_empty()
        items = self.count_items()
        if not items:
            return ()
        texts = []
        for index, scope_text in enumerate(self._scope_texts):
            if scope_text is None:
                scopes = getattr(self.entries[index], self._form.names.scopes)
                scope_text = messages.encode(scopes)  # noqa: PLW2901
            texts.append(self._entry_text(index, scope_text))
        body = texts[0] if len(texts) == 1 else b",".join(texts)
        if len(body) <= limit_bytes or items == 1:
            return (self._piece(body, items, self.records, range(len(self.resources))),)
        return tuple(self._cut(limit_bytes))

    def _drop_empty(self) -> None:
        """Take out what holds no item, metrics without points among it."""
        _, scopes_name, records_name = self._form.names
        kept = []
        for index, entry in enumerate(self.entries):
            scopes = getattr(entry, scopes_name)
            if self._form.is_metrics:
                for scope in scopes:
                    if not all(map(points_of, scope.metrics)):
                        scope.metrics = [each for each in scope.metrics if points_of(each)]
                        self._scope_texts[index] = None
            filled = [scope for scope in scopes if getattr(scope, records_name)]
            if len(filled) != len(scopes):
                setattr(entry, scopes_name, filled)
                self._scope_texts[index] = None
            if filled:
                kept.append(index)
        if len(kept) != len(self.entries):
            self.entries = [self.entries[index] for index in kept]
            self.resources = [self.resources[index] for index in kept]
            self._scope_texts = [self._scope_texts[index] for index in kept]
            self._resource_texts = [self._resource_texts[index] for index in kept]

    def _entry_text(self, index: int, scope_text: bytes) -> bytes:
        """One entry of resourceSpans, joined from its parts."""
        resource = self._resource_texts[index]
        url = self.entries[index].schemaUrl
        return b"".join(
            (
                b'{"resource":' if resource else b"{",
                resource,
                b"," if resource else b"",
                self._form.scopes_key,
                scope_text,
                b',"schemaUrl":%b}' % messages.encode(url) if url else b"}",
            )
        )

    def _piece(
        self, body: bytes, items: int, records: list[Any], resources: range | list[int]
    ) -> Piece:
        distinct: dict[str, None] = {}
        if not self._form.is_metrics:
            # Of a log record without a trace that is nothing.
            distinct = dict.fromkeys([record.traceId for record in records])
        services = dict.fromkeys([self.resources[index].service for index in resources])
        services.pop("", None)
        return Piece(
            encoding=self.encoding,
            body=body,
            items=items,
            trace_ids=bytes.fromhex("".join(distinct)),
            services=tuple(services),
            flags=self.findings.flags,
            signal=self.wire.signal,
        )

    def _cut(self, limit_bytes: int) -> Iterator[Piece]:
        sized: list[SizedItem] = []
        texts: list[bytes] = []
        for place, items, around in self._runs():
            encoded = list(map(messages.encode, items))
            texts += encoded
            sized += [
                SizedItem((*place, number), len(text) + 1, around)
                for number, text in enumerate(encoded)
            ]
        start = 0
        for group in group_items(sized, limit_bytes):
            end = start + len(group)
            runs: dict[tuple[int, ...], list[bytes]] = {}
            for item, text in zip(group, texts[start:end], strict=True):
                runs.setdefault(item.place[:-1], []).append(text)
            yield self._group_piece(runs, len(group), self.records[start:end])
            start = end

    def _runs(self) -> Iterator[tuple[tuple[int, ...], list[Any], tuple[int, ...]]]:
        """Each list of items with its place, and the sizes of what is repeated around it."""
        _, scopes_name, records_name = self._form.names
        frame_bytes = len(b',"":[],') + len(records_name)
        for i, entry in enumerate(self.entries):
            entry_bytes = len(self._entry_text(i, b"[],"))
            for j, scope in enumerate(getattr(entry, scopes_name)):
                shell = replace(scope, **{records_name: []})
                around = (entry_bytes, len(messages.encode(shell)) + frame_bytes)
                records = getattr(scope, records_name)
                if not self._form.is_metrics:
                    yield (i, j), records, around
                    continue
                for k, metric in enumerate(records):
                    shell = messages.encode(with_points(metric, []))
                    metric_bytes = len(shell) + len(b',"dataPoints":[],')
                    yield (i, j, k), points_of(metric), (*around, metric_bytes)

    def _group_piece(
        self, runs: dict[tuple[int, ...], list[bytes]], items: int, records: list[Any]
    ) -> Piece:
        """A piece of these items' texts, given by place, with all that was around them."""
        _, scopes_name, records_name = self._form.names
        if self._form.is_metrics:
            points, runs = runs, {}
            for (i, j, k), texts in points.items():
                metric = getattr(self.entries[i], scopes_name)[j].metrics[k]
                # A list that holds one ready text: the points, joined by commas.
                text = messages.encode(with_points(metric, [Raw(b",".join(texts))]))
                runs.setdefault((i, j), []).append(text)
        by_entry: dict[int, list[Any]] = {}
        for (i, j), texts in runs.items():
            scope = getattr(self.entries[i], scopes_name)[j]
            part = replace(scope, **{records_name: [Raw(b",".join(texts))]})
            by_entry.setdefault(i, []).append(part)
        body = b",".join(
            self._entry_text(i, messages.encode(scopes)) for i, scopes in by_entry.items()
        )
        return self._piece(body, items, records, list(by_entry))


def _has_no_resource(entry: Any, form: _Form) -> bool:
    return entry.resource is form.no_resource or bytes(entry.resource) == b"null"


def _all_records(entries: list[Any], names: Lists) -> list[Any]:
    """Every span, log record or metric of these entries, in order."""
    _, scopes_name, records_name = names
    if len(entries) == 1:
        scopes = getattr(entries[0], scopes_name)
        if len(scopes) == 1:
            records: list[Any] = getattr(scopes[0], records_name)
            return records  # nearly always
    return [
        record
        for entry in entries
        for scope in getattr(entry, scopes_name)
        for record in getattr(scope, records_name)
    ]


def decode(
    body: bytes, cache: ResourceCache, wire: SignalWire = TRACES, weigh: Weigh | None = None
) -> JsonRequest:
    """Decode a request either way. Raises Refusal (400) that names a position or a path.

    `weigh` may raise whatever keeps a request of too many messages from being looked at further.
    """
    try:
        return decode_fast(body, cache, wire, weigh)
    except NOT_FAST:
        pass  # not suppress(), which costs half a microsecond
    # Not while that exception is handled: it would hold all that was decoded so far.
    return decode_exact(body, cache, wire, weigh)


def decode_fast(
    body: bytes, cache: ResourceCache, wire: SignalWire = TRACES, weigh: Weigh | None = None
) -> JsonRequest:
    """The way for what is normal already, or nearly.

    Raises Unusual, RecursionError or one of msgspec's ValueErrors where it cannot vouch. A
    resource that only the exact way can read does not send the items that way.
    """
    # msgspec counts its own recursion and raises; what it still takes is measured level by level.
    form = _FORMS[wire.signal]
    request = form.decode(body)
    if weigh is not None:
        weigh(request)
    decoded = _settle(form, request, Findings(), cache)
    may_have_lost_a_list = (
        len(body) >= decoded.normal_bytes + form.least_list_bytes
        or decoded.findings.has_grown
        or form.is_metrics  # of which numbers are many
    )
    if may_have_lost_a_list and decoded.has_lost_a_list(body):
        raise Unusual
    return decoded


def _has_members(body: bytes, name: str, most: int) -> bool:
    """Whether members of this name stand in `body` more than `most` times. Texts are no members."""
    quoted = b'"%b"' % name.encode()
    return body.count(quoted) > most and len(re.findall(quoted + rb"\s*:", body)) > most


def decode_exact(
    body: bytes, cache: ResourceCache, wire: SignalWire = TRACES, weigh: Weigh | None = None
) -> JsonRequest:
    """The way for every body. Raises Refusal."""
    findings = Findings()
    request = json_exact.read_request(body, findings, wire)
    if weigh is not None:
        weigh(request)
    return _settle(_FORMS[wire.signal], request, findings, cache)


def _settle(form: _Form, request: Any, findings: Findings, cache: ResourceCache) -> JsonRequest:
    """Make every value normal, encode what is around the resources, look these up."""
    names = form.names
    entries = getattr(request, names.entries)
    scopes_of = [getattr(entry, names.scopes) for entry in entries]
    lists = [
        scope.scope.attributes
        for scopes in scopes_of
        for scope in scopes
        if scope.scope is not UNSET and scope.scope.attributes
    ]
    records = _all_records(entries, names)
    form.normalise(records, lists, findings)
    scope_texts = [messages.encode(scopes) for scopes in scopes_of]
    scope_bytes = sum(map(len, scope_texts))
    is_long = form.wire is TRACES and scope_bytes > _LONG_SPAN_BYTES * len(records)
    if not (is_long and are_single(lists)) and any(map(has_second_member, scope_texts)):
        raise Unusual  # never of what the exact way has read
    resources = []
    normal_bytes = form.frame_bytes + scope_bytes
    for index, entry in enumerate(entries):
        text = bytes(entry.resource)
        normal_bytes += len(form.scopes_key) + len(b"{}")
        if not _has_no_resource(entry, form):
            normal_bytes += len(b'"resource":,') + len(text)
        if entry.schemaUrl:
            normal_bytes += len(b',"schemaUrl":""') + len(entry.schemaUrl)
        known = cache.get(text) or cache.put(text, know_json(text))
        resources.append(known)
        if known.flags:
            findings.flags |= known.flags
        for code, times in known.warnings.items():
            findings.warnings[code] += times
            for place in known.places.get(code, ()):
                findings.place(code, f"{names.entries}[{index}].{place}")
    return JsonRequest(form, entries, records, resources, scope_texts, findings, normal_bytes)
