"""A kept fragment, opened: its items to be looked at, changed and left out, then closed again.

JSON becomes the structs of `messages`, protobuf the official classes. Both are walked alike: what
differs are the names of fields (`FIELDS`) and how an AnyValue tells what it holds (`any_values`).

JSON may be nested deeper than a decoder can go (decision D5): what lies below 30 levels is put
aside, and is a fragment of its own there (`Opened.deep`). Only fields of the schema are in JSON; in
protobuf unknown ones stay unless somebody discards them (`Opened.discard_unknown`).
"""

import re
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from relay.model.records import Encoding, Signal
from relay.otlp import data_points, messages, messages_metrics
from relay.otlp.folding import MAX_PROTOBUF_LEVELS, replace_below
from relay.otlp.signals import WIRE
from relay.otlp.transcode import TranscodeError, decode_entries, describe_error, read_request

# No number in normal form begins with @, and inside a text the quotation marks would be escaped.
_PUT_ASIDE: Final = b'{"intValue":"@%d"}'
_FIND_ASIDE: Final = re.compile(rb'\{"intValue":"@([0-9]+)"\}')
_NO_RESOURCE: Final = messages.Resource()
_decode_value = msgspec.json.Decoder(messages.AnyValue).decode


@dataclass(slots=True, eq=False)
class Group:
    """Items that share what is around them: the spans or log records of a scope, the points of a
    metric. Whoever changes `resource` says so by `Opened.resource_changed`.

    `holder` is the message whose list holds the items, or of a metric the one that holds it.
    """

    encoding: Encoding
    signal: Signal
    entry: Any
    resource: Any
    holder: Any
    scope: Any  # None where JSON has none
    metric: Any  # None for spans and log records
    items: MutableSequence[Any]
    known: dict[Any, bool] = field(default_factory=dict)
    """What conditions found that look only at what is around the items."""


class Opened:
    """A fragment whose items can be worked on in place. `groups` are in the order of the items.

    Raises TranscodeError when the fragment is not what this relay writes.
    """

    def __init__(self, fragment: bytes, encoding: Encoding, signal: Signal) -> None:
        self.encoding = encoding
        self.signal = signal
        self.deep: list[messages.AnyValue] = []
        self.has_empty = False
        """Whether any envelope holds no item; `close` leaves such out."""
        self._changed: list[Group] = []
        self._request: Any = None
        self._entries: MutableSequence[Any]
        if encoding is Encoding.PROTOBUF:
            self._request = read_request(fragment, signal)
            self._entries = getattr(self._request, WIRE[signal].lists[encoding].entries)
        else:
            try:
                self._entries = self._decoded(fragment)
            except (ValueError, RecursionError, msgspec.MsgspecError) as error:
                raise TranscodeError(describe_error("JSON", error)) from None
        self.groups: Sequence[Group] = list(self._read_groups())

    def _decoded(self, fragment: bytes) -> list[Any]:
        """The entries, with deep values put aside where there are any."""
        try:
            return decode_entries(fragment, self.signal)
        except RecursionError:
            return decode_entries(self._shallow(fragment), self.signal)

    def _shallow(self, text: bytes) -> bytes:
        """`text` with every value below 30 levels in `deep`, each of which is shallow as well."""
        found: list[bytes] = []

        def put_aside(value: bytes) -> bytes:
            found.append(value)
            return _PUT_ASIDE % (len(self.deep) + len(found) - 1)

        flat = replace_below(text, MAX_PROTOBUF_LEVELS, put_aside)
        first = len(self.deep)
        self.deep += [messages.AnyValue()] * len(found)
        for index, value in enumerate(found):
            self.deep[first + index] = _decode_value(self._shallow(value))
        return flat

    @property
    def _points_of(self) -> Callable[[Any], Any]:
        is_json = self.encoding is Encoding.JSON
        return messages_metrics.points_of if is_json else data_points.points_of

    def _read_groups(self) -> Iterator[Group]:
        wire = WIRE[self.signal].lists[self.encoding]
        is_json = self.encoding is Encoding.JSON
        points_of = self._points_of
        for entry in self._entries:
            resource = messages.decode_resource(entry.resource) if is_json else entry.resource
            holders = getattr(entry, wire.scopes)
            self.has_empty |= not holders
            for holder in holders:
                scope = None if holder.scope is msgspec.UNSET else holder.scope
                around = (self.encoding, self.signal, entry, resource, holder, scope)
                records = getattr(holder, wire.records)
                self.has_empty |= not records
                if self.signal is not Signal.METRICS:
                    yield Group(*around, None, records)
                    continue
                for metric in records:
                    points = points_of(metric)
                    self.has_empty |= not points
                    yield Group(*around, metric, points)

    def resource_changed(self, group: Group) -> None:
        """The resource of `group` is not what it was."""
        self._changed.append(group)

    def discard_unknown(self) -> None:
        """Give up what the schema does not know, of which nobody can say what it is."""
        if self._request is not None:
            self._request.DiscardUnknownFields()

    def close(self) -> bytes:
        """The fragment as it is now, without envelopes that hold no item any more."""
        self._prune()
        if self._request is not None:
            closed: bytes = self._request.SerializeToString()
            return closed
        for group in self._changed:
            if group.resource != _NO_RESOURCE or group.entry.resource is not messages.NO_RESOURCE:
                group.entry.resource = msgspec.Raw(messages.encode(group.resource))
        text = messages.encode(self._entries)[1:-1]
        while self.deep and _FIND_ASIDE.search(text):
            text = _FIND_ASIDE.sub(lambda found: messages.encode(self.deep[int(found[1])]), text)
        return text

    def _prune(self) -> None:
        wire = WIRE[self.signal].lists[self.encoding]
        is_metrics = self.signal is Signal.METRICS
        points_of = self._points_of
        for entry in self._entries:
            scopes = getattr(entry, wire.scopes)
            for holder in scopes if is_metrics else ():
                _keep(getattr(holder, wire.records), lambda metric: bool(points_of(metric)))
            _keep(scopes, lambda holder: bool(getattr(holder, wire.records)))
        _keep(self._entries, lambda entry: bool(getattr(entry, wire.scopes)))


def keep_marked(items: MutableSequence[Any], is_kept: Sequence[bool]) -> None:
    """Leave of `items` those that are marked."""
    end = len(items)
    for at in reversed(range(len(items))):
        if is_kept[at]:
            if at + 1 < end:
                del items[at + 1 : end]
            end = at
    if end:
        del items[:end]


def _keep(messages_: MutableSequence[Any], is_kept: Callable[[Any], bool]) -> None:
    marks = [is_kept(each) for each in messages_]
    if not all(marks):
        keep_marked(messages_, marks)
