"""Requests in OTLP/JSON: decoded into structs in normal form, encoded as fragments.

Two ways lead to the same structs. The fast way decodes typed, makes numbers normal and vouches
for nothing else; whatever it does not know (an unknown key, null, two members in one value, a
number that is out of range, broken text) goes the exact way, which decides and names paths.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgspec import UNSET, Raw

from relay.model.records import Encoding, Piece
from relay.otlp import json_exact, messages
from relay.otlp.cuts import SizedSpan, group_spans
from relay.otlp.json_values import (
    SECOND_MEMBER,
    Findings,
    Unusual,
    normalise_attributes,
    normalise_times,
)
from relay.otlp.messages import ResourceSpans, ScopeSpans, Span
from relay.otlp.resources import KnownResource, ResourceCache, know_json

NOT_FAST: Final = (ValueError, RecursionError, Unusual)
"""What `decode_fast` raises where it cannot vouch for a body."""

Weigh = Callable[[messages.ExportTraceServiceRequest], None]

_NO_RESOURCE: Final = ResourceSpans().resource  # the default itself: told apart by identity


class JsonTraces:
    """A decoded request. Whoever changes spans says so with `changed`: texts are kept.

    `resources` stands parallel to `resource_spans`. `spans` are all of them in order. `findings`
    holds flags for the pieces and warnings by code.
    """

    encoding: Final = Encoding.JSON

    def __init__(
        self,
        resource_spans: list[ResourceSpans],
        resources: list[KnownResource],
        spans: list[Span],
        scope_texts: list[bytes],
        findings: Findings,
    ) -> None:
        self.resource_spans = resource_spans
        self.resources = resources
        self.spans = spans
        self.findings = findings
        self._scope_texts: list[bytes | None] = list(scope_texts)
        self._resource_texts = [
            b"" if _has_no_resource(entry) else known.normal
            for entry, known in zip(resource_spans, resources, strict=True)
        ]

    def changed(self) -> None:
        """Spans were changed or taken out: all texts are made anew."""
        self.spans = all_spans(self.resource_spans)
        self._scope_texts = [None] * len(self.resource_spans)

    def fragment_of(self, index: int, scope: ScopeSpans, span: Span) -> bytes:
        """A fragment with this span alone, its resource and scope around it."""
        alone = ScopeSpans(scope=scope.scope, spans=[span], schemaUrl=scope.schemaUrl)
        return self._entry_text(index, messages.encode([alone]))

    def pieces(self, limit_bytes: int, resources: list[bytes] | None = None) -> tuple[Piece, ...]:
        """The request as fragments within the limit; none without spans.

        `resources` are encoded resources to put in the place of its own, one an entry. What holds
        no span is left out. A single span that is larger than the limit stays whole.
        """
        if resources is not None:
            for index, encoded in enumerate(resources):
                if encoded != self.resources[index].normal:
                    self._resource_texts[index] = encoded
        self._drop_empty()
        if not self.spans:
            return ()
        texts = []
        for index, scope_text in enumerate(self._scope_texts):
            if scope_text is None:
                scope_text = messages.encode(self.resource_spans[index].scopeSpans)  # noqa: PLW2901
            texts.append(self._entry_text(index, scope_text))
        body = texts[0] if len(texts) == 1 else b",".join(texts)
        if len(body) <= limit_bytes or len(self.spans) == 1:
            return (self._piece(body, self.spans, range(len(self.resources))),)
        return self._cut(limit_bytes)

    def _drop_empty(self) -> None:
        """Take out what holds no span."""
        kept = []
        for index, entry in enumerate(self.resource_spans):
            filled = [scope for scope in entry.scopeSpans if scope.spans]
            if len(filled) != len(entry.scopeSpans):
                entry.scopeSpans = filled
                self._scope_texts[index] = None
            if filled:
                kept.append(index)
        if len(kept) != len(self.resource_spans):
            self.resource_spans = [self.resource_spans[index] for index in kept]
            self.resources = [self.resources[index] for index in kept]
            self._scope_texts = [self._scope_texts[index] for index in kept]
            self._resource_texts = [self._resource_texts[index] for index in kept]

    def _entry_text(self, index: int, scope_text: bytes) -> bytes:
        """One entry of resourceSpans, joined from its parts."""
        resource = self._resource_texts[index]
        url = self.resource_spans[index].schemaUrl
        return b"".join(
            (
                b'{"resource":' if resource else b"{",
                resource,
                b',"scopeSpans":' if resource else b'"scopeSpans":',
                scope_text,
                b',"schemaUrl":%b}' % messages.encode(url) if url else b"}",
            )
        )

    def _piece(self, body: bytes, spans: list[Span], resources: range | list[int]) -> Piece:
        distinct = dict.fromkeys([span.traceId for span in spans])
        services = dict.fromkeys([self.resources[index].service for index in resources])
        services.pop("", None)
        return Piece(
            encoding=Encoding.JSON,
            body=body,
            items=len(spans),
            trace_ids=bytes.fromhex("".join(distinct)),
            services=tuple(services),
            flags=self.findings.flags,
        )

    def _cut(self, limit_bytes: int) -> tuple[Piece, ...]:
        texts: dict[tuple[int, int, int], bytes] = {}
        sized = []
        for i, entry in enumerate(self.resource_spans):
            resource_bytes = len(self._entry_text(i, b"[],"))
            for j, scope in enumerate(entry.scopeSpans):
                scope_bytes = len(_scope_text(scope, b"")) + 1
                for k, span in enumerate(scope.spans):
                    text = texts[i, j, k] = messages.encode(span)
                    sized.append(SizedSpan(i, j, k, len(text) + 1, scope_bytes, resource_bytes))
        return tuple(self._group_piece(group, texts) for group in group_spans(sized, limit_bytes))

    def _group_piece(
        self, group: list[SizedSpan], texts: dict[tuple[int, int, int], bytes]
    ) -> Piece:
        by_place: dict[int, dict[int, list[bytes]]] = {}
        spans = []
        for place in group:
            i, j, k = place[:3]
            by_place.setdefault(i, {}).setdefault(j, []).append(texts[i, j, k])
            spans.append(self.resource_spans[i].scopeSpans[j].spans[k])
        entries = []
        for i, scopes in by_place.items():
            scope_texts = [
                _scope_text(self.resource_spans[i].scopeSpans[j], b",".join(span_texts))
                for j, span_texts in scopes.items()
            ]
            entries.append(self._entry_text(i, b"[%b]" % b",".join(scope_texts)))
        return self._piece(b",".join(entries), spans, list(by_place))


def _scope_text(scope: ScopeSpans, spans_text: bytes) -> bytes:
    """One entry of scopeSpans around the text of its spans."""
    head = b"" if scope.scope is UNSET else b'"scope":%b,' % messages.encode(scope.scope)
    tail = b',"schemaUrl":%b' % messages.encode(scope.schemaUrl) if scope.schemaUrl else b""
    return b'{%b"spans":[%b]%b}' % (head, spans_text, tail)


def _has_no_resource(entry: ResourceSpans) -> bool:
    return entry.resource is _NO_RESOURCE or bytes(entry.resource) == b"null"


def all_spans(resource_spans: list[ResourceSpans]) -> list[Span]:
    """Every span of these entries, in order."""
    if len(resource_spans) == 1 and len(resource_spans[0].scopeSpans) == 1:
        return resource_spans[0].scopeSpans[0].spans  # nearly always
    return [span for entry in resource_spans for scope in entry.scopeSpans for span in scope.spans]


def decode(body: bytes, cache: ResourceCache) -> JsonTraces:
    """Decode a request either way. Raises Refusal (400) that names a position or a path."""
    with suppress(*NOT_FAST):
        return decode_fast(body, cache)
    # Not while that exception is handled: it would hold all that was decoded so far.
    return decode_exact(body, cache)


def decode_fast(body: bytes, cache: ResourceCache, weigh: Weigh | None = None) -> JsonTraces:
    """The way for what is normal already, or nearly.

    Raises Unusual, RecursionError or one of msgspec's ValueErrors where it cannot vouch. A
    resource that only the exact way can read does not send the spans that way. `weigh` may raise
    whatever keeps a request of too many messages from being looked at any further.
    """
    # msgspec counts its own recursion and raises; what it still takes is measured level by level.
    request = messages.decode_request(body)
    if weigh is not None:
        weigh(request)
    return _settle(request, Findings(), cache, is_exact=False)


def decode_exact(body: bytes, cache: ResourceCache) -> JsonTraces:
    """The way for every body. Raises Refusal."""
    findings = Findings()
    request = json_exact.read_request(body, findings)
    return _settle(request, findings, cache, is_exact=True)


def _settle(
    request: messages.ExportTraceServiceRequest,
    findings: Findings,
    cache: ResourceCache,
    *,
    is_exact: bool,
) -> JsonTraces:
    """Make every value normal, encode what is around the resources, look these up."""
    entries = request.resourceSpans
    spans = all_spans(entries)
    lists = [span.attributes for span in spans]
    events = [event for span in spans if span.events for event in span.events]
    lists += [event.attributes for event in events]
    lists += [link.attributes for span in spans if span.links for link in span.links]
    lists += [
        scope.scope.attributes
        for entry in entries
        for scope in entry.scopeSpans
        if scope.scope is not UNSET and scope.scope.attributes
    ]
    normalise_attributes(lists, findings)
    normalise_times(spans, events)
    scope_texts = [messages.encode(entry.scopeSpans) for entry in entries]
    if not is_exact and any(SECOND_MEMBER in text for text in scope_texts):
        raise Unusual
    resources = []
    for index, entry in enumerate(entries):
        known = _known(entry.resource, index, cache)
        resources.append(known)
        if known.flags:
            findings.flags |= known.flags
        for code in known.warnings:
            findings.warnings[code] += 1
    return JsonTraces(entries, resources, spans, scope_texts, findings)


def _known(resource: Raw, index: int, cache: ResourceCache) -> KnownResource:
    text = bytes(resource)
    known = cache.get(text)
    return known or cache.put(text, know_json(text, f"resourceSpans[{index}].resource"))
