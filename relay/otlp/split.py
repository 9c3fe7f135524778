"""Takes a stretch of items out of a kept fragment, with the envelopes around them.

Items are counted in the order in which they stand, over all resources and scopes; of metrics they
are the points. What is left without an item is left out. JSON items are copied as text, so they
stay what they were byte for byte. Protobuf goes through the official classes, which keep the
fields that they do not know.
"""

import re
from collections.abc import Callable, MutableSequence, Sized
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Raw

from relay.model.records import Encoding, Signal
from relay.otlp.data_points import METRIC_KINDS, points_of
from relay.otlp.folding import MAX_PROTOBUF_LEVELS, replace_below
from relay.otlp.signals import WIRE, SignalWire
from relay.otlp.transcode import TranscodeError, describe_error

_decode_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode
# No number in normal form begins with @, and inside a text the quotation marks would be escaped.
_HIDDEN = re.compile(rb'\{"intValue":"@([0-9]+)"\}')


def slice_items(
    fragment: bytes, encoding: Encoding, first: int, count: int, signal: Signal
) -> bytes:
    """The `count` items of `fragment` from number `first` (from 0) on, as a fragment.

    Fewer where it holds fewer. Raises TranscodeError, and nothing else, when the fragment is not
    what this relay writes.
    """
    wire = WIRE[signal]
    stretch = _Stretch(first, first + count)
    if encoding is Encoding.PROTOBUF:
        return _slice_protobuf(fragment, stretch, wire)
    try:
        try:
            return _slice_json(fragment, stretch, wire)
        except RecursionError:
            return _slice_deep(fragment, _Stretch(first, first + count), wire)
    except (ValueError, KeyError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(describe_error("JSON", error)) from None


class _Stretch:
    """Counts items as lists of them go by."""

    def __init__(self, first: int, end: int) -> None:
        self._first = first
        self._end = end
        self._seen = 0

    def of(self, items: Sized) -> slice:
        """Which of the next list of items belong to the stretch."""
        begin, self._seen = self._seen, self._seen + len(items)
        return slice(max(self._first - begin, 0), max(self._end - begin, 0))


def _slice_json(fragment: bytes, stretch: _Stretch, wire: SignalWire) -> bytes:
    lists = wire.lists[Encoding.JSON]
    entries = []
    for entry in _decode_objects(b"[%b]" % fragment):
        scopes = []
        for scope in _decode_objects(entry[lists.scopes]):
            records = scope[lists.records]
            if wire.signal is Signal.METRICS:
                metrics = (_metric(metric, stretch) for metric in _decode_objects(records))
                kept: list[Any] = [metric for metric in metrics if metric]
            else:
                items = _decode_items(records)
                kept = items[stretch.of(items)]
            if kept:
                scopes.append({**scope, lists.records: kept})
        if scopes:
            entries.append({**entry, lists.scopes: scopes})
    return _encode(entries)[1:-1]


def _metric(metric: dict[str, Raw], stretch: _Stretch) -> dict[str, Any]:
    """The metric with those of its points that belong to the stretch; empty without any."""
    for kind in METRIC_KINDS:
        if kind in metric:
            data = _decode_object(metric[kind])
            points = _decode_items(data["dataPoints"])
            kept = points[stretch.of(points)]
            return {**metric, kind: {**data, "dataPoints": kept}} if kept else {}
    return {}


def _slice_deep(fragment: bytes, stretch: _Stretch, wire: SignalWire) -> bytes:
    """As `_slice_json`, with deep values put aside meanwhile: no decoder is to recurse there."""
    hidden: list[bytes] = []

    def hide(value: bytes) -> bytes:
        hidden.append(value)
        return b'{"intValue":"@%d"}' % (len(hidden) - 1)

    flat = replace_below(fragment, MAX_PROTOBUF_LEVELS, hide)
    return _HIDDEN.sub(lambda found: hidden[int(found[1])], _slice_json(flat, stretch, wire))


def _slice_protobuf(fragment: bytes, stretch: _Stretch, wire: SignalWire) -> bytes:
    try:
        request = wire.request.FromString(fragment)
    except DecodeError as error:
        raise TranscodeError(describe_error("protobuf", error)) from None
    lists = wire.lists[Encoding.PROTOBUF]

    def cut_scope(scope: Any) -> bool:
        records = getattr(scope, lists.records)
        if wire.signal is Signal.METRICS:
            return _keep(records, lambda metric: _cut(points_of(metric), stretch))
        return _cut(records, stretch)

    _keep(
        getattr(request, lists.entries),
        lambda entry: _keep(getattr(entry, lists.scopes), cut_scope),
    )
    return request.SerializeToString()


def _cut(items: MutableSequence[Any], stretch: _Stretch) -> bool:
    """Leave of `items` those of the stretch; whether there are any."""
    wanted = stretch.of(items)
    del items[wanted.stop :]
    del items[: wanted.start]
    return bool(items)


def _keep(envelopes: MutableSequence[Any], cut: Callable[[Any], bool]) -> bool:
    """Cut what is in each envelope, in order, and leave those that still hold something."""
    kept = [cut(envelope) for envelope in envelopes]
    for index in reversed(range(len(kept))):
        if not kept[index]:
            del envelopes[index]
    return any(kept)
