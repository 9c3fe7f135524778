"""Values of OTLP/JSON into normal form: decoded structs in, the same structs made normal out.

Normal form: 64-bit integers are decimal strings without leading zeros and in range, doubles are
numbers (only NaN and the infinities are strings), bytes are standard padded base64, an AnyValue
has one member. This is the fast way's half: it changes what is cheap to change (numbers into
strings) and raises `Unusual` for everything else, which the exact way then settles with a path.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any, Final

from msgspec import UNSET

from relay.model.records import BodyFlag
from relay.otlp.messages import AnyValue, Event, KeyValue, Span
from relay.otlp.messages_logs import LogRecord
from relay.otlp.messages_metrics import Metric

MOST_LEVELS: Final = 200  # nested arrayValue and kvlistValue that are accepted (decision D5)
PLAIN_LEVELS: Final = 30  # what every protobuf parser takes: beyond it a body is marked as deep
PLACES_A_WARNING: Final = 3
SPECIAL_DOUBLES: Final = frozenset({"NaN", "Infinity", "-Infinity"})

_INT64_LOW, _INT64_HIGH = -(2**63), 2**63 - 1
_FIXED64_HIGH = 2**64 - 1
# The encoder leaves a default out if it is this very object.
_ZERO: Final = str(Event().timeUnixNano)
# A second member beside stringValue: that one is encoded last, hence after a comma. Inside a text
# the quote would be escaped, so nothing else can look like this.
_SECOND_MEMBER: Final = b',"stringValue":'


class Unusual(Exception):
    """The fast way cannot vouch for this body; the exact way decides."""


class Tally(dict[str, int]):
    """How many times, by code: a Counter that costs a tenth to make, in every request."""

    def __missing__(self, _code: str) -> int:
        return 0


@dataclass(slots=True)
class Unreadable:
    """What could not be read and was taken out: a record, a point, or an envelope of such.

    `place` are its indices in the lists as they were sent, `path` is where it is wrong, `tree` what
    was sent: of JSON a tree, of protobuf an encoded record. Of a point in JSON, `metric` is the
    metric that it was taken out of. It counts as so many `items`.
    """

    place: tuple[int, ...]
    path: str
    tree: Any
    metric: Metric | None = None
    trace_id: str = ""
    items: int = 1


@dataclass(slots=True)
class Findings:
    """What was noticed of a body beside its contents: flags for couriers, warnings by code.

    `places` are the first few places of a warning, where it has such. `top_keys` are the keys at
    the top of a body that was read the exact way. `has_grown` tells that its normal form may be
    longer than what came: numbers have become texts, or are written otherwise.
    """

    flags: BodyFlag = BodyFlag.NONE
    warnings: Tally = field(default_factory=Tally)
    places: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    top_keys: tuple[str, ...] = field(default=(), compare=False)
    has_grown: bool = field(default=False, compare=False)

    def warn_at(self, code: str, place: str) -> None:
        """Count a warning, and remember its place."""
        self.warnings[code] += 1
        self.place(code, place)

    def place(self, code: str, place: str) -> None:
        """Remember a place of a warning if it is one of the first."""
        places = self.places.setdefault(code, [])
        if len(places) < PLACES_A_WARNING and place not in places:
            places.append(place)


def is_hex(text: str) -> bool:
    """Whether it is bytes as pairs of lower-case digits."""
    try:
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False


def base64_normal(text: str) -> str:
    """Standard padded base64 of what `text` means; it may be URL-safe or unpadded.

    Raises ValueError when it is no base64.
    """
    digits = text.rstrip("=").replace("-", "+").replace("_", "/")
    if len(text) - len(digits) > 2 or len(digits) % 4 == 1:
        raise ValueError("not base64")
    try:
        content = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    return base64.b64encode(content).decode("ascii")


def normalise_attributes(lists: list[list[KeyValue]], findings: Findings) -> None:
    """Keys are counted where they break a rule, values that are no strings made normal.

    Raises Unusual. A second member beside a stringValue shows only in the encoded text:
    `has_second_member` finds it.
    """
    for attributes in lists:
        if attributes:
            keys = {attribute.key for attribute in attributes}
            if len(keys) != len(attributes) or "" in keys:
                _count_keys(attributes, len(keys), findings)
    try:
        values: list[AnyValue] = [
            value  # type: ignore[misc]
            for attributes in lists
            for attribute in attributes
            if (value := attribute.value).stringValue is UNSET  # type: ignore[union-attr]
        ]
    except AttributeError:  # an attribute without a value, which is an empty one
        values = [
            value
            for attributes in lists
            for attribute in attributes
            if (value := attribute.value) is not UNSET and value.stringValue is UNSET
        ]
    if values:
        normalise_values(values, findings)


def has_second_member(text: bytes) -> bool:
    """Whether a value in this encoded text has a member beside its stringValue."""
    return text.rfind(_SECOND_MEMBER) >= 0  # from the end CPython skips more than `in` does


def are_single(lists: list[list[KeyValue]]) -> bool:
    """Whether each value has one member, and none holds other values. False says nothing."""
    for attributes in lists:
        for attribute in attributes:
            value = attribute.value
            if value is UNSET:
                continue
            if value.arrayValue is not UNSET or value.kvlistValue is not UNSET:
                return False
            if value.stringValue is not UNSET and not (
                value.intValue
                is value.doubleValue
                is value.boolValue
                is value.bytesValue
                is value.stringValueStrindex
                is UNSET
            ):
                return False
    return True


def _count_keys(attributes: list[KeyValue], distinct: int, findings: Findings) -> None:
    by_index = sum(1 for attribute in attributes if attribute.keyStrindex)
    empty = sum(1 for attribute in attributes if not attribute.key) - by_index
    # Keys that are given by index all have the empty text: they are no duplicates of each other.
    if len(attributes) - max(by_index - 1, 0) != distinct:
        findings.warnings["attribute_key_duplicate"] += 1
    if empty > 0:
        findings.warnings["attribute_key_empty"] += 1
    if by_index:
        findings.warnings["string_index"] += 1


def normalise_values(values: list[AnyValue], findings: Findings) -> None:
    """Make values normal, in place, level by level: depth costs no stack. Raises Unusual."""
    level = 0
    while values:
        texts: list[str] = []
        others: list[AnyValue] = []
        for value in values:
            number = value.intValue
            if number is UNSET:
                if value.stringValue is UNSET:
                    others.append(value)
            elif not (
                value.doubleValue
                is value.boolValue
                is value.arrayValue
                is value.kvlistValue
                is value.bytesValue
                is value.stringValueStrindex
                is UNSET
            ):
                raise Unusual  # two members
            elif isinstance(number, str):
                texts.append(number)
            elif _INT64_LOW <= number <= _INT64_HIGH:
                value.intValue = str(number)
                findings.has_grown = True
            else:
                raise Unusual
        if texts and not _are_canonical(texts):
            _check_int64s(texts)
        lists = [_normalise_other(other, findings) for other in others]
        level += any(held is not None for held in lists)
        values = [value for held in lists if held for value in held]
    if level > PLAIN_LEVELS:
        if level > MOST_LEVELS:
            raise Unusual
        findings.flags |= BodyFlag.DEEP


def _normalise_other(value: AnyValue, findings: Findings) -> list[AnyValue] | None:
    """A value that is neither text nor integer; what it holds where it is a list or a map."""
    members = (
        value.doubleValue,
        value.boolValue,
        value.arrayValue,
        value.kvlistValue,
        value.bytesValue,
        value.stringValueStrindex,
    )
    if members.count(UNSET) < len(members) - 1:
        raise Unusual  # two members
    if value.arrayValue is not UNSET:
        return value.arrayValue.values
    if value.kvlistValue is not UNSET:
        entries = value.kvlistValue.values
        if any(entry.keyStrindex for entry in entries):
            findings.warnings["string_index"] += 1
        return [entry.value for entry in entries if entry.value is not UNSET]
    if isinstance(value.doubleValue, str):
        if value.doubleValue not in SPECIAL_DOUBLES:
            raise Unusual  # a number in quotes
        findings.flags |= BodyFlag.SPECIAL_DOUBLES
    elif value.doubleValue is not UNSET:
        # Of others the shortest text is the one that is written.
        findings.has_grown |= value.doubleValue.is_integer() or abs(value.doubleValue) < 0.001
    elif value.bytesValue is not UNSET:
        _check_base64(value.bytesValue)
    elif value.stringValueStrindex is not UNSET:
        findings.warnings["string_index"] += 1
    return None


def _check_base64(text: str) -> None:
    try:
        is_normal = base64_normal(text) == text
    except ValueError:
        is_normal = False
    if not is_normal:
        raise Unusual


def _are_canonical(texts: list[str]) -> bool:
    """All of them are canonical decimals of at most 18 characters. False says nothing."""
    if max(map(len, texts)) > 18:
        return False
    joined = "," + ",".join(texts) + ","
    if joined.count(",") != len(texts) + 1 or "-0" in joined:
        return False
    joined = joined.replace(",-", ",")
    if ",," in joined or joined.count(",0") != joined.count(",0,"):
        return False  # a leading zero
    return joined.isascii() and joined.replace(",", "").isdigit()


def _check_int64s(texts: list[str]) -> None:
    for text in texts:
        digits = text.removeprefix("-")
        if not _is_canonical_number(digits) or text == "-0":
            raise Unusual
        if not _INT64_LOW <= int(text) <= _INT64_HIGH:
            raise Unusual


def _is_canonical_number(digits: str) -> bool:
    return (
        digits.isascii()
        and digits.isdigit()
        and len(digits) <= 20
        and (digits[0] != "0" or len(digits) == 1)
    )


_getter = cache(attrgetter)


def normalise_times(*members: tuple[Sequence[Any], str]) -> bool:
    """Members that hold nanoseconds, or counts, into decimal text within fixed64. Raises Unusual.

    Each is given as the structs that have it, and its name. Returns whether there were numbers.
    """
    times: list[str] = []
    for structs, name in members:
        if structs:
            times += map(_getter(name), structs)
    if not times:
        return False
    try:
        joined = "".join(times)
    except TypeError:  # numbers among them
        joined = ""
    # 19 digits without a leading zero: the years 2001 to 2286, and always within 64 bits.
    is_plain = joined.isascii() and joined.isdigit() and set(map(len, times)) == {19}
    if not is_plain or "0" in joined[::19]:
        for structs, name in members:
            for struct in structs:
                setattr(struct, name, normal_fixed64(getattr(struct, name)))
    return not joined


def normal_fixed64(number: str | int) -> str:
    """Decimal text of an unsigned 64-bit number. Raises Unusual."""
    if isinstance(number, str) and not _is_canonical_number(number):
        raise Unusual
    whole = int(number)
    if not 0 <= whole <= _FIXED64_HIGH:
        raise Unusual
    return str(whole) if whole else _ZERO


def normal_int64(number: str | int) -> str:
    """Decimal text of a signed 64-bit number. Raises Unusual."""
    if isinstance(number, str):
        _check_int64s([number])
        return number
    if not _INT64_LOW <= number <= _INT64_HIGH:
        raise Unusual
    return str(number)


def normalise_spans(spans: list[Span], lists: list[list[KeyValue]], findings: Findings) -> None:
    """Every value of these spans, and of these further attribute lists. Raises Unusual."""
    events = [event for span in spans if span.events for event in span.events]
    lists += [span.attributes for span in spans]
    lists += [event.attributes for event in events]
    lists += [link.attributes for span in spans if span.links for link in span.links]
    normalise_attributes(lists, findings)
    findings.has_grown |= normalise_times(
        (spans, "startTimeUnixNano"), (spans, "endTimeUnixNano"), (events, "timeUnixNano")
    )


def normalise_logs(
    records: list[LogRecord], lists: list[list[KeyValue]], findings: Findings
) -> None:
    """As `normalise_spans`, for log records and their bodies."""
    lists += [record.attributes for record in records]
    normalise_attributes(lists, findings)
    bodies = [
        record.body
        for record in records
        if record.body is not UNSET and record.body.stringValue is UNSET
    ]
    if bodies:
        normalise_values(bodies, findings)
    findings.has_grown |= normalise_times(
        (records, "timeUnixNano"), (records, "observedTimeUnixNano")
    )
