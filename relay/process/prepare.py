"""Makes of a request's body what is kept of it: check → enrich → cut into pieces for the disk.

The same code runs in the event loop and in the offload process, and gives the same bytes.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from relay.model.errors import Refusal, TooHeavy
from relay.model.reasons import ROW_BYTES
from relay.model.records import BodyFlag, Encoding, Piece, RejectedItem, Sender, Signal
from relay.otlp import json, native, protobuf
from relay.otlp.json import JsonRequest
from relay.otlp.json_values import Findings, Tally
from relay.otlp.protobuf import ProtobufRequest
from relay.otlp.protobuf_guess import describe as describe_signal
from relay.otlp.protobuf_guess import guess_signal, refuse_another
from relay.otlp.protobuf_mend import Torn, mend, read_former_scopes
from relay.otlp.resources import ResourceCache
from relay.otlp.signals import WIRE, Lists, SignalWire
from relay.process.check.ids import MalformedIds
from relay.process.check.json_spans import check_json
from relay.process.check.log_rules import check_logs
from relay.process.check.metric_rules import check_metrics
from relay.process.check.protobuf_spans import check_protobuf
from relay.process.check.rejections import (
    NONE_REJECTED,
    AllItemsRejected,
    Rejections,
    rejections_of,
)
from relay.process.check.weight import (
    MOST_VALUES,
    NEVER_HEAVY_BYTES,
    refuse_empty_messages,
    refuse_many_around,
    refuse_many_empty_fields,
    refuse_many_messages,
    refuse_many_objects,
    refuse_many_tokens,
)
from relay.process.check.words import describe, describe_rejected
from relay.process.enrich import Enrich, stable

_NONE: Final[Mapping[str, int]] = MappingProxyType({})
# Looked up once: until Python 3.12 a member of an enum costs a tenth of a microsecond each time.
_JSON: Final = Encoding.JSON
_PROTOBUF: Final = Encoding.PROTOBUF
_TRACES: Final = Signal.TRACES
_LOGS: Final = Signal.LOGS
_METRICS: Final = Signal.METRICS
_FLAGS: Final = tuple(map(BodyFlag, range(8)))


class PrepareSettings(msgspec.Struct, frozen=True, array_like=True):
    """What decides how a request is prepared; the offload process is told exactly this.

    `detected` attributes are for senders on this host, `configured` ones for all.
    """

    malformed_ids: MalformedIds = "auto"
    detected: dict[str, str] = {}
    configured: dict[str, str] = {}


class Prepared(NamedTuple):
    """A request of which `items` can be kept.

    `rejected` become dead letters: all rejected items, or the first of very many.
    `rejected_by_reason` counts all of them, `warnings` times by code. `message` is for the
    sender, empty when there is nothing to say.
    """

    pieces: tuple[Piece, ...]
    items: int
    rejected: tuple[RejectedItem, ...] = ()
    rejected_by_reason: Mapping[str, int] = _NONE
    warnings: Mapping[str, int] = _NONE
    message: str = ""


class Checked(NamedTuple):
    """A request that can be kept: `items` of it remain. `warnings` are times by code."""

    request: JsonRequest | ProtobufRequest
    items: int
    rejections: Rejections
    warnings: Tally

    @property
    def rejected(self) -> tuple[RejectedItem, ...]:
        """The rejected items that become dead letters: all, or the first if they are very many."""
        return tuple(self.rejections.kept)

    def message(self) -> str:
        """What the sender is told beside the number rejected: at most 1 KiB, empty if nothing."""
        return describe(self.request.wire, self.items, self.rejections, self.request.findings)


class _Resources:
    """What is known of resources, by encoding, and what is added to them."""

    def __init__(self, settings: PrepareSettings, detected: Mapping[str, str]) -> None:
        self._enrich = Enrich(detected=detected, configured=settings.configured)
        self.known = {encoding: ResourceCache() for encoding in Encoding}

    def additions(self, encoding: Encoding, *, is_local: bool) -> list[tuple[bytes, bytes, bytes]]:
        """What is added to resources, as the native pass takes it."""
        return self._enrich.additions(encoding, is_local=is_local)

    def enriched(self, request: JsonRequest | ProtobufRequest, *, is_local: bool) -> list[bytes]:
        """The enriched resources, nearly always remembered from an earlier request."""
        return [
            known.enriched[is_local] or self._enrich(known, request.encoding, is_local=is_local)
            for known in request.resources
        ]


class Prepare:
    """Prepares bodies of both encodings. Holds what is known of resources under `settings`."""

    def __init__(
        self,
        settings: PrepareSettings,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        native_pass: Any = native.MODULE,
    ) -> None:
        """`clock_ns` tells when a request arrived, to which its times are compared.

        `native_pass` is the module that is asked first, None for the Python path alone.
        """
        self.settings = settings
        self._clock_ns = clock_ns
        usual = _Resources(settings, settings.detected)
        self._resources = {
            Signal.TRACES: usual,
            Signal.LOGS: usual,
            Signal.METRICS: _Resources(settings, stable(settings.detected)),
        }
        self._native: Any = None
        if native_pass is not None:
            additions = [
                (signal, encoding, is_local, resources.additions(encoding, is_local=is_local))
                for signal, resources in self._resources.items()
                for encoding in Encoding
                for is_local in (False, True)
            ]
            preparer = native_pass.Preparer(settings.malformed_ids, ROW_BYTES, additions)
            self._native = preparer.prepare

    def __call__(
        self,
        body: bytes,
        encoding: Encoding,
        sender: Sender,
        *,
        signal: Signal = Signal.TRACES,
        is_bounded: bool = False,
    ) -> Prepared:
        """Check, enrich and cut one body. Raises what `check` raises.

        The native pass does it where it vouches for the same result, and where it has time for it.
        """
        if self._native is not None:
            now_ns = self._clock_ns()
            made = self._native(body, encoding, signal, sender.is_local, now_ns, is_bounded)
            if made is False:
                raise TooHeavy
            if made is not None:
                return _prepared(made, encoding, signal, len(body))
        checked = self.check(body, encoding, signal=signal, is_bounded=is_bounded)
        request = checked.request
        pieces: tuple[Piece, ...] = ()
        if checked.items:
            resources = self._resources[signal].enriched(request, is_local=sender.is_local)
            pieces = request.pieces(ROW_BYTES, resources)
        if not checked.rejections.counts and not checked.warnings:
            return Prepared(pieces, checked.items)
        return Prepared(
            pieces,
            checked.items,
            checked.rejected,
            checked.rejections.counts,
            checked.warnings,
            checked.message(),
        )

    def check(
        self,
        body: bytes,
        encoding: Encoding,
        *,
        signal: Signal = Signal.TRACES,
        is_bounded: bool = False,
    ) -> Checked:
        """Decode and check a whole request.

        Raises Refusal (400, or 413 for messages most of which are empty) when the body cannot be
        decoded, AllItemsRejected when it holds items and none of them is valid, and TooHeavy when
        it `is_bounded` and the body turns out to be more than the event loop should take.
        """
        wire = WIRE[signal]
        known = self._resources[signal].known[encoding]
        mode, now_ns = self.settings.malformed_ids, self._clock_ns()
        request: JsonRequest | ProtobufRequest
        if encoding is _JSON:
            request = _decode_json(body, known, wire, is_bounded=is_bounded)
        else:
            request = _decode_protobuf(body, known, wire, is_bounded=is_bounded)
        request.body_bytes = len(body)
        if signal is _LOGS:
            rejections = check_logs(request, mode, now_ns, is_bounded=is_bounded)
        elif signal is _METRICS:
            rejections = check_metrics(request, now_ns, is_bounded=is_bounded)
        elif isinstance(request, JsonRequest):
            rejections = check_json(request, mode, now_ns, is_bounded=is_bounded)
        else:
            rejections = check_protobuf(request, mode, now_ns, is_bounded=is_bounded)
        if request.findings.unreadable:
            rejections = _with_unreadable(request, rejections)
        items = request.count_items()
        if not items and isinstance(request, ProtobufRequest):
            request.drop_empty()  # what it holds beside items is told
        if rejections.counts and not items:
            other = guess_signal(body, wire) if encoding is Encoding.PROTOBUF else None
            hint = f"; {describe_signal(other)}" if other else ""
            raise AllItemsRejected(
                f"all {describe_rejected(wire, rejections)}{hint}",
                tuple(rejections.kept),
                rejections.counts,
            )
        return Checked(request, items, rejections, request.findings.warnings)


def _prepared(
    made: tuple[Any, ...], encoding: Encoding, signal: Signal, body_bytes: int
) -> Prepared:
    """What the native pass made of a body: pieces, and what is to be told."""
    parts, items, flags, warnings, rejected, places = made
    pieces = tuple(
        [
            Piece(encoding, body, number, trace_ids, services, _FLAGS[flags], signal)
            for body, number, trace_ids, services in parts
        ]
    )
    if warnings is None and rejected is None:
        return Prepared(pieces, items)
    wire = WIRE[signal]
    findings = Findings(warnings=Tally(warnings or {}))
    for code, place in places:
        findings.place(code, place)
    rejections = Rejections(wire, encoding, body_bytes)
    for reason, member, place, trace_id, fragment, number in rejected or ():
        rejections.add((reason, member), place, trace_id, partial(bytes, fragment), number)
    return Prepared(
        pieces,
        items,
        tuple(rejections.kept),
        rejections.counts,
        findings.warnings,
        describe(wire, items, rejections, findings),
    )


def _decode_json(
    body: bytes, known: ResourceCache, wire: SignalWire, *, is_bounded: bool
) -> JsonRequest:
    weigh = _weigh(len(body), wire.lists[_JSON], is_bounded=is_bounded)
    if not is_bounded:
        return json.decode(body, known, wire, weigh)
    refuse_many_objects(body)
    with suppress(*json.NOT_FAST):
        return json.decode_fast(body, known, wire, weigh)
    refuse_many_tokens(body)
    return json.decode_exact(body, known, wire, weigh)


def _weigh(body_bytes: int, lists: Lists, *, is_bounded: bool) -> Callable[[Any], None] | None:
    """What keeps a decoded request of too many messages from being looked at further."""
    if is_bounded:
        return partial(refuse_many_messages, lists=lists)
    if body_bytes > NEVER_HEAVY_BYTES:
        return partial(refuse_empty_messages, lists=lists, body_bytes=body_bytes)
    return None


def _with_unreadable(request: JsonRequest | ProtobufRequest, rejected: Rejections) -> Rejections:
    """What the check rejected, and what could not even be read."""
    if rejected is NONE_REJECTED:
        rejected = rejections_of(request)
    for each in request.findings.unreadable:
        rejected.add_unreadable(each, partial(request.fragment_as_sent, each))
    return rejected


def _decode_protobuf(
    body: bytes, known: ResourceCache, wire: SignalWire, *, is_bounded: bool
) -> ProtobufRequest:
    findings = Findings()
    if is_bounded:
        refuse_many_empty_fields(body)
    try:
        message = protobuf.parse(body, wire)
    except Refusal as refusal:
        if is_bounded:
            raise TooHeavy from None  # it may have to be read field by field
        other = guess_signal(body, wire)
        if other:
            raise Refusal(f"{refusal.message}; {describe_signal(other)}") from None
        try:
            message = mend(body, wire, findings)
        except Torn:
            raise refusal from None
    lists = wire.lists[_PROTOBUF]
    weigh = _weigh(len(body), lists, is_bounded=is_bounded)
    if weigh is not None:
        weigh(message)
    if is_bounded:
        refuse_many_around(message, lists)
    is_filled = protobuf.is_filled(message, wire)
    if not is_filled and protobuf.has_former_scopes(message, wire):
        if is_bounded:
            raise TooHeavy  # their entries are read field by field
        read_former_scopes(message, wire)
    if wire.signal is not _TRACES:
        refuse_another(message, body, wire)
    most_values = MOST_VALUES if is_bounded else None
    return protobuf.settle(
        message, body, known, wire, findings, is_filled=is_filled, most_values=most_values
    )
