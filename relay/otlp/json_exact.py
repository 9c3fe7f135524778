"""Reads a JSON body that the fast way refused: the same structs, or a Refusal with a path.

Here the rules of proto3 JSON and of OTLP are applied one by one, at ten times the cost: null is
a field's default, numbers may stand in quotes, the last of two members wins, a list that is given
twice is appended. Leniencies are counted as warnings, and so is what was ignored: nothing is
thrown away in silence.

What cannot be read costs no more than it must: a value of an attribute becomes an empty one, a
member of a resource, scope, event or link counts as absent, as does what a metric says of itself;
anything else costs its span, log record or data point, or the envelope without which there are
none. Those go to `findings.unreadable`, as sent.

Nothing here is trusted to be shallow or short: depth is measured before anything recurses, and
digits are counted before they become numbers.
"""

import re
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any, Final, get_args, get_origin, get_type_hints

from msgspec import Raw, Struct, UnsetType

from relay.model.errors import Refusal
from relay.model.records import Encoding
from relay.otlp import messages, messages_logs, messages_metrics
from relay.otlp.json_scalars import (
    SEVERITIES,
    SPAN_KINDS,
    STATUS_CODES,
    TEMPORALITIES,
    Misfit,
    Place,
    Read,
    indices,
    read_boolean,
    read_bytes,
    read_count,
    read_enum,
    read_int32,
    read_number,
    read_special_or_double,
    read_text,
    read_time,
    read_uint32,
    render,
)
from relay.otlp.json_tree import Number, parse
from relay.otlp.json_values import (
    MOST_LEVELS,
    Findings,
    Unreadable,
)
from relay.otlp.messages_metrics import DATA, Double, Exemplar, Metric, NumberDataPoint
from relay.otlp.signals import TRACES, WIRE, SignalWire
from relay.otlp.words import clean

MOST_KEY_CHARACTERS: Final = 40

_CAPITAL = re.compile("[A-Z]")

_ABSENT: Final = object()  # what a member that counts as absent was read as


def snake_case(name: str) -> str:
    """The name of a field as proto files spell it, which is not valid in OTLP/JSON."""
    return _CAPITAL.sub(lambda found: "_" + found[0].lower(), name)


# Keys of a request that give another signal's body away, by the signal that it was sent as.
OTHER_SIGNALS: Final = {
    signal: {
        spelled: f"{other.name.lower()}_body"
        for other, theirs in WIRE.items()
        if other is not signal
        for spelled in (
            theirs.lists[Encoding.JSON].entries,
            theirs.lists[Encoding.PROTOBUF].entries,
        )
    }
    for signal in WIRE
}
# What scopes were called before OTLP 0.15; some senders never changed.
_FORMER_NAMES: Final = {
    "instrumentationLibrarySpans": "scopeSpans",
    "instrumentationLibraryLogs": "scopeLogs",
    "instrumentationLibraryMetrics": "scopeMetrics",
    "instrumentationLibrary": "scope",
}


def read_request(body: bytes, findings: Findings, wire: SignalWire = TRACES) -> Any:
    """A whole request. Raises Refusal with status 400 that names a position or a path."""
    tree = parse(body, "the body", findings)
    if type(tree) is not tuple:
        name = wire.json_request_struct.__name__
        raise Refusal(f"the body must be a JSON object (an {name})")
    findings.top_keys = tuple(clean(key, MOST_KEY_CHARACTERS) for key, _ in tree[:10])
    reader = _Reader(findings, OTHER_SIGNALS[wire.signal])
    try:
        request = reader.message(_REQUESTS[wire.signal], tree, None)
    except Misfit as misfit:
        raise Refusal(str(misfit)) from None
    reader.finish_values()
    return request


def read_resource(text: bytes, findings: Findings) -> messages.Resource:
    """A resource alone, as `read_request` does it; places are below `resource`."""
    tree = parse(text, "a resource", findings)
    reader = _Reader(findings, {})
    if tree is None:
        return messages.Resource()
    read = _or_absent(_RESOURCE_READ, "envelope_unreadable")
    resource = read(reader, tree, (None, "resource"))
    reader.finish_values()
    return messages.Resource() if resource is _ABSENT else resource


class _Shape:
    """A message: the struct it becomes, and how each of its keys is read, by its type there.

    `oneof` are members of which the last one wins.
    """

    def __init__(self, struct: type[Struct]) -> None:
        self.struct = struct
        self.oneof = _ONEOFS.get(struct, ())
        self.fields = {
            name: _BY_NAME.get(name) or _read_as(kind)
            for name, kind in get_type_hints(struct, include_extras=True).items()
        }
        for name, read in self.fields.items():
            if struct in _POINTING and name in _IDS:
                self.fields[name] = _id_of_another
            elif struct in _DESCRIPTIONS or (struct in _AROUND and name in _AROUND_ITEMS):
                self.fields[name] = _or_absent(read, "envelope_unreadable")
            elif struct in _PARTS:
                self.fields[name] = _or_absent(read, "value_unreadable")
        self.former = {
            former: name for former, name in _FORMER_NAMES.items() if name in self.fields
        }
        self.snake = _snake_names(struct)


def _snake_names(struct: type[Struct]) -> frozenset[str]:
    names = struct.__struct_fields__
    return frozenset(snake for name in names if (snake := snake_case(name)) != name)


class _Reader:
    """Reads one tree. Values within values wait in a list, so that depth costs no stack."""

    def __init__(self, findings: Findings, other_signals: dict[str, str]) -> None:
        self.findings = findings
        self._other_signals = other_signals
        self._pending: list[tuple[messages.AnyValue, str, Any, Place, int]] = []
        self._level = 0

    def message(self, shape: _Shape, tree: Any, place: Place) -> Any:
        """The struct of `shape`. Raises Misfit.

        The last of duplicate keys wins, but lists are appended; null takes a key away.
        """
        if type(tree) is not tuple:
            raise Misfit(place, "an object")
        members = self._members(shape, tree, place)
        for name in [name for name in members if name in shape.oneof][:-1]:
            del members[name]
        read = {}
        for key, item in members.items():
            found = shape.fields[key](self, item, (place, key))
            if found is not _ABSENT:
                read[key] = found
        if isinstance(read.get("asInt"), float):
            read["asDouble"] = read.pop("asInt")
        return shape.struct(**read)

    def _members(self, shape: _Shape, tree: Any, place: Place) -> dict[str, Any]:
        members: dict[str, Any] = {}
        appended: set[str] = set()
        for sent, item in tree:
            key = shape.former.get(sent, sent)
            if key not in shape.fields:
                self._ignore(shape.snake, sent, place)
                continue
            before = members.pop(key, None)
            if item is None:
                continue
            if type(before) is list and type(item) is list:
                # The tree itself stays as it was sent; and many small lists must not be copied
                # over and over.
                members[key] = before if key in appended else list(before)
                members[key] += item
                appended.add(key)
            else:
                members[key] = item
                appended.discard(key)
        return members

    def _ignore(self, snake_names: frozenset[str], key: str, place: Place) -> None:
        """Count a key that is ignored with all it holds, and name each such key once."""
        findings = self.findings
        if place is None and key in self._other_signals:
            findings.warnings[self._other_signals[key]] += 1
            return
        code = "snake_case" if key in snake_names else "unknown_key"
        name = clean(key, MOST_KEY_CHARACTERS)
        known = findings.places.get(code, ())
        if any(path == name or path.endswith("." + name) for path in known):
            findings.warnings[code] += 1
        else:
            findings.warn_at(code, render((place, name)))

    def items(self, read: Read, tree: Any, place: Place) -> list[Any]:
        """A list, each of its items read. Raises Misfit."""
        if type(tree) is not list:
            raise Misfit(place, "a list")
        return [read(self, item, (place, index)) for index, item in enumerate(tree)]

    def reject(self, misfit: Misfit, place: Place, tree: Any, since: int, *, items: int) -> None:
        """Set aside, as it was sent, what stands at `place`: it cannot be read.

        What was set aside within it, since there were so many, is a part of that.
        """
        unreadable = self.findings.unreadable
        del unreadable[since:]
        unreadable.append(Unreadable(indices(place), render(misfit.place), tree, items=items))

    def value(self, tree: Any, place: Place) -> messages.AnyValue:
        """An AnyValue; empty, with a warning, where it cannot be read."""
        if tree is None:
            return messages.AnyValue()
        try:
            return self._value(tree, place)
        except Misfit as misfit:
            self.findings.warn_at("value_unreadable", render(misfit.place))
            return messages.AnyValue()

    def _value(self, tree: Any, place: Place) -> messages.AnyValue:
        """An AnyValue. Of several members the last one wins (decision D13). Raises Misfit."""
        if type(tree) is not tuple:
            raise Misfit(place, "an object with one member such as stringValue")
        chosen, item = "", None
        for key, candidate in tree:
            if key not in _MEMBERS:
                self._ignore(_ANY_VALUE_SNAKE, key, place)
            elif candidate is not None:
                chosen, item = key, candidate
            elif key == chosen:
                chosen = ""
        value = messages.AnyValue()
        place = (place, chosen)
        if chosen in _SCALARS:
            read = _SCALARS[chosen](self, item, place)
            if chosen == "intValue" and isinstance(read, float):
                chosen = "doubleValue"
            setattr(value, chosen, read)
        elif chosen:
            self._pending.append((value, chosen, item, place, self._level + 1))
        return value

    def finish_values(self) -> None:
        """Read what waits: lists and maps within values, whatever they hold in turn."""
        while self._pending:
            value, member, tree, place, self._level = self._pending.pop()
            if self._level > MOST_LEVELS:
                raise Refusal(
                    f"{render(place)} must be nested at most {MOST_LEVELS} levels of arrayValue"
                    " and kvlistValue"
                )
            shape = _ARRAY_VALUE if member == "arrayValue" else _KEY_VALUE_LIST
            try:
                setattr(value, member, self.message(shape, tree, place))
            except Misfit as misfit:
                self.findings.warn_at("value_unreadable", render(misfit.place))
        self._level = 0


def _many(read: Read) -> Read:
    return lambda reader, item, place: reader.items(read, item, place)


def _some(read: Read, warning: str) -> Read:
    """A list of which what cannot be read is left out, with a warning that names its place."""

    def read_some(reader: _Reader, item: Any, place: Place) -> list[Any]:
        def read_each() -> Iterable[Any]:
            for index, each in enumerate(item):
                try:
                    yield read(reader, each, (place, index))
                except Misfit as misfit:
                    reader.findings.warn_at(warning, render(misfit.place))

        if type(item) is not list:
            raise Misfit(place, "a list")
        return list(read_each())

    return read_some


def _or_absent(read: Read, warning: str) -> Read:
    """What is no item itself: where it cannot be read, it counts as absent, with a warning."""

    def read_or_tell(reader: _Reader, item: Any, place: Place) -> Any:
        try:
            return read(reader, item, place)
        except Misfit as misfit:
            reader.findings.warn_at(warning, render(misfit.place))
            return _ABSENT

    return read_or_tell


def _id_of_another(reader: _Reader, item: Any, place: Place) -> Any:
    """The id of a span that something else is about: whatever it is, it costs no more than itself.

    A number is its own text; whether that is an id is for the check to say.
    """
    try:
        return str(item) if isinstance(item, Number) else read_text(reader, item, place)
    except Misfit as misfit:
        reader.findings.warn_at("value_unreadable", render(misfit.place))
        return _ABSENT


def _rejecting(struct: type[Struct]) -> Read:
    """A list of envelopes, records or points: what cannot be read is set aside by itself.

    In the place of an envelope there is an empty one, so that the others keep their indices.
    """
    shape = _Shape(struct)
    is_envelope = struct in _ENVELOPES

    def read_each(reader: _Reader, item: Any, place: Place) -> list[Any]:
        if type(item) is not list:
            raise Misfit(place, "a list")
        kept = []
        unreadable = reader.findings.unreadable
        for index, each in enumerate(item):
            since = len(unreadable)
            try:
                made = reader.message(shape, each, (place, index))
            except Misfit as misfit:
                if not is_envelope or each is not None:
                    items = _count_points(each) if struct is Metric else 1
                    reader.reject(misfit, (place, index), each, since, items=items)
                if is_envelope:
                    kept.append(struct())
                continue
            kept.append(made)
            if struct is Metric:
                for point in unreadable[since:]:
                    point.metric = made
        return kept

    return read_each


def _count_points(tree: Any) -> int:
    """How many points go with a metric that cannot be read; one where these cannot be told."""
    held = [item for key, item in tree if key in DATA] if type(tree) is tuple else []
    members = held[-1] if held and type(held[-1]) is tuple else ()
    lists = [item for key, item in members if key == "dataPoints" and type(item) is list]
    return max(1, sum(map(len, lists)))


def _raw_resource(reader: _Reader, item: Any, place: Place) -> Raw:
    resource = _RESOURCE_READ(reader, item, place)
    reader.finish_values()
    return Raw(messages.encode(resource))


_SCALARS: Final[dict[str, Read]] = {
    "stringValue": read_text,
    "boolValue": read_boolean,
    "intValue": read_number,
    "doubleValue": read_special_or_double,
    "bytesValue": read_bytes,
    "stringValueStrindex": read_int32,
}
_MEMBERS: Final = {*_SCALARS, "arrayValue", "kvlistValue"}
_ANY_VALUE_SNAKE: Final = _snake_names(messages.AnyValue)
# Members whose type does not tell how they are read.
_BY_NAME: Final = {
    "kind": read_enum(SPAN_KINDS),
    "code": read_enum(STATUS_CODES),
    "severityNumber": read_enum(SEVERITIES),
    "aggregationTemporality": read_enum(TEMPORALITIES),
    "asInt": read_number,
    "count": read_count,
    "zeroCount": read_count,
    "bucketCounts": _many(read_count),
}
_BY_TYPE: Final[dict[Any, Read]] = {
    bool: read_boolean,
    Double: read_special_or_double,
    str: read_text,
    messages.Int32: read_int32,
    messages.UInt32: read_uint32,
    messages.Int64: read_time,
    messages.AnyValue: _Reader.value,
    Raw: _raw_resource,
}
_ONEOFS: Final[dict[type[Struct], tuple[str, ...]]] = {
    Metric: DATA,
    NumberDataPoint: ("asDouble", "asInt"),
    Exemplar: ("asDouble", "asInt"),
}
# What describes items: each of its members counts as absent where it cannot be read.
_DESCRIPTIONS: Final = (messages.Resource, messages.InstrumentationScope)
# Parts of a span: each of their members likewise.
_PARTS: Final = (messages.Event, messages.Link)
# What points to a span by its ids, and is worth something without them.
_POINTING: Final = (messages.Link, messages_logs.LogRecord, Exemplar)
_IDS: Final = frozenset({"traceId", "spanId"})
# What holds items.
_ENVELOPES: Final = (
    *(wire.entry for wire in WIRE.values()),
    messages.ScopeSpans,
    messages_logs.ScopeLogs,
    messages_metrics.ScopeMetrics,
)
# What these members say is around items: each counts as absent where it cannot be read.
_AROUND: Final = (*_ENVELOPES, Metric)
_AROUND_ITEMS: Final = frozenset(
    {"resource", "scope", "schemaUrl", "name", "description", "unit", "metadata"}
)
_RECORDS: Final = (
    messages.Span,
    messages_logs.LogRecord,
    Metric,
    NumberDataPoint,
    messages_metrics.HistogramDataPoint,
    messages_metrics.ExponentialHistogramDataPoint,
    messages_metrics.SummaryDataPoint,
)
_LEFT_OUT: Final = {
    messages.KeyValue: "attribute_unreadable",
    messages.Event: "event_unreadable",
    messages.Link: "link_unreadable",
    Exemplar: "exemplar_unreadable",
}


def _read_as(kind: Any) -> Read:
    """How a member of this type is read."""
    known = _BY_TYPE.get(kind)
    if known:
        return known
    if get_origin(kind) is list:
        (of,) = get_args(kind)
        if of in _ENVELOPES or of in _RECORDS:
            return _rejecting(of)
        return _some(_read_as(of), _LEFT_OUT[of]) if of in _LEFT_OUT else _many(_read_as(of))
    if UnsetType in get_args(kind):
        return _read_as(reduce(or_, [each for each in get_args(kind) if each is not UnsetType]))
    shape = _Shape(kind)
    return lambda reader, item, place: reader.message(shape, item, place)


_RESOURCE_READ = _read_as(messages.Resource)
_ARRAY_VALUE = _Shape(messages.ArrayValue)
_KEY_VALUE_LIST = _Shape(messages.KeyValueList)
_REQUESTS = {signal: _Shape(wire.json_request_struct) for signal, wire in WIRE.items()}
