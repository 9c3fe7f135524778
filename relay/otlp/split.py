"""Takes some of the items out of a kept fragment, with the envelopes around them.

Items are counted in the order in which they stand, over all resources and scopes; of metrics they
are the points. What is left without an item is left out. JSON items are copied as text, so they
stay what they were byte for byte. Protobuf goes through the official classes, which keep the
fields that they do not know.
"""

import re
from collections.abc import Callable, MutableSequence, Sequence, Sized
from itertools import groupby
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from relay.model.records import Encoding, Signal
from relay.otlp.data_points import points_of
from relay.otlp.folding import MAX_PROTOBUF_LEVELS, replace_below
from relay.otlp.messages_metrics import DATA
from relay.otlp.signals import WIRE, SignalWire
from relay.otlp.transcode import TranscodeError, describe_error, read_request

_decode_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode
_AROUND = {"resource", "schemaUrl"}
# A list that the other encoding left out.
_EMPTY = Raw(b"[]")
# No number in normal form begins with @, and inside a text the quotation marks would be escaped.
_HIDDEN = re.compile(rb'\{"intValue":"@([0-9]+)"\}')


def slice_items(
    fragment: bytes, encoding: Encoding, first: int, count: int, signal: Signal
) -> bytes:
    """The `count` items of `fragment` from number `first` (from 0) on, as a fragment.

    Fewer where it holds fewer. Raises TranscodeError, and nothing else, when the fragment is not
    what this relay writes.
    """
    return _take(fragment, encoding, lambda: _Stretch(first, first + count), signal)


def pick_items(
    fragment: bytes, encoding: Encoding, is_wanted: Sequence[bool], signal: Signal
) -> bytes:
    """The items of `fragment` that are wanted, each told by its place, as a fragment.

    Raises as `slice_items`.
    """
    return _take(fragment, encoding, lambda: _Marked(is_wanted), signal)


class _Choice(Protocol):
    """Says of lists of items, as they go by, which of them are taken."""

    def of(self, items: Sized) -> list[slice]:
        """The runs of those of the next list, in order."""
        ...


def _take(
    fragment: bytes, encoding: Encoding, choose: Callable[[], _Choice], signal: Signal
) -> bytes:
    wire = WIRE[signal]
    if encoding is Encoding.PROTOBUF:
        return _slice_protobuf(fragment, choose(), wire)
    try:
        try:
            return _slice_json(fragment, choose(), wire)
        except RecursionError:
            return _slice_deep(fragment, choose(), wire)
    except (ValueError, KeyError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(describe_error("JSON", error)) from None


class _Stretch:
    """The items from one number to another."""

    def __init__(self, first: int, end: int) -> None:
        self._first = first
        self._end = end
        self._seen = 0

    def of(self, items: Sized) -> list[slice]:
        begin, self._seen = self._seen, self._seen + len(items)
        return [slice(max(self._first - begin, 0), max(self._end - begin, 0))]


class _Marked:
    """The items that are marked, by number."""

    def __init__(self, is_wanted: Sequence[bool]) -> None:
        self._is_wanted = is_wanted
        self._seen = 0

    def of(self, items: Sized) -> list[slice]:
        begin, self._seen = self._seen, self._seen + len(items)
        runs, at = [], 0
        for is_wanted, alike in groupby(self._is_wanted[begin : self._seen]):
            length = len(list(alike))
            if is_wanted:
                runs.append(slice(at, at + length))
            at += length
        return runs


def _slice_json(fragment: bytes, choice: _Choice, wire: SignalWire) -> bytes:
    lists = wire.lists[Encoding.JSON]
    entries = []
    for entry in _decode_objects(b"[%b]" % fragment):
        if entry.keys() <= _AROUND:
            continue  # an envelope of nothing
        scopes = []
        for scope in _decode_objects(entry[lists.scopes]):
            records = scope.get(lists.records, _EMPTY)
            if wire.signal is Signal.METRICS:
                metrics = (_metric(metric, choice) for metric in _decode_objects(records))
                kept = [metric for metric in metrics if metric]
            else:
                items = _decode_items(records)
                kept = _runs(items, choice)
            if kept:
                scopes.append({**scope, lists.records: kept})
        if scopes:
            entries.append({**entry, lists.scopes: scopes})
    return _encode(entries)[1:-1]


def _metric(metric: dict[str, Raw], choice: _Choice) -> dict[str, Any] | None:
    """The metric with those of its points that are taken; None without any."""
    for kind in DATA:
        if kind in metric:
            data = _decode_object(metric[kind])
            points = _decode_items(data.get("dataPoints", _EMPTY))
            kept = _runs(points, choice)
            return {**metric, kind: {**data, "dataPoints": kept}} if kept else None
    return None


def _runs(items: list[Raw], choice: _Choice) -> list[Any]:
    return [item for run in choice.of(items) for item in items[run]]


def _slice_deep(fragment: bytes, choice: _Choice, wire: SignalWire) -> bytes:
    """As `_slice_json`, with deep values put aside meanwhile: no decoder is to recurse there."""
    hidden: list[bytes] = []

    def hide(value: bytes) -> bytes:
        hidden.append(value)
        return b'{"intValue":"@%d"}' % (len(hidden) - 1)

    flat = replace_below(fragment, MAX_PROTOBUF_LEVELS, hide)
    return _HIDDEN.sub(lambda found: hidden[int(found[1])], _slice_json(flat, choice, wire))


def _slice_protobuf(fragment: bytes, choice: _Choice, wire: SignalWire) -> bytes:
    request: Any = read_request(fragment, wire.signal)
    lists = wire.lists[Encoding.PROTOBUF]

    def cut_scope(scope: Any) -> bool:
        records = getattr(scope, lists.records)
        if wire.signal is Signal.METRICS:
            return _keep(records, lambda metric: _cut(points_of(metric), choice))
        return _cut(records, choice)

    _keep(
        getattr(request, lists.entries),
        lambda entry: _keep(getattr(entry, lists.scopes), cut_scope),
    )
    sliced: bytes = request.SerializeToString()
    return sliced


def _cut(items: MutableSequence[Any], choice: _Choice) -> bool:
    """Leave of `items` those that are taken; whether there are any."""
    end = len(items)
    for run in reversed(choice.of(items)):
        start, stop, _ = run.indices(len(items))
        del items[stop:end]
        end = start
    del items[:end]
    return bool(items)


def _keep(envelopes: MutableSequence[Any], cut: Callable[[Any], bool]) -> bool:
    """Cut what is in each envelope, in order, and leave those that still hold something."""
    kept = [cut(envelope) for envelope in envelopes]
    for index in reversed(range(len(kept))):
        if not kept[index]:
            del envelopes[index]
    return any(kept)
