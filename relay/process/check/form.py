"""How the two encodings hold what the rules look at, so that each rule is written once.

Records are changed where they stand, be they structs or official messages. An id is text in JSON
and bytes in protobuf: what a record has of it is called *raw* here. Times are decimal text in
normal form, or integers; zero is none.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from relay.model.records import Encoding
from relay.otlp.json_values import is_hex
from relay.otlp.messages import AnyValue, KeyValue


class Form(NamedTuple):
    """Spans, links, log records and exemplars of one encoding."""

    ids: tuple[str, str, str]  # names of the members: the trace's id, the span's, its parent's
    dropped_links: str
    time: str
    observed_time: str
    no_time: str | int
    write_time: Callable[[int], Any]
    are_normal: Callable[[list[Any], int], bool]
    """Whether all of these ids, of which none is empty, have that size and are in normal form."""
    read: Callable[[Any, int], bytes | None]
    """The id of a raw one and its size, empty if there is none; None if it is malformed."""
    write: Callable[[bytes], Any]
    """The raw form of an id."""
    original: Callable[[Any], tuple[bytes, str]]
    """A malformed raw id as the bytes to derive from, and as a person would write it."""
    add_attribute: Callable[[Any, str, str], None]
    """Put an attribute, its key and text, behind those of a record."""


def _are_normal_in_json(ids: list[str], size: int) -> bool:
    return set(map(len, ids)) <= {2 * size} and "00" * size not in ids and is_hex("".join(ids))


def _read_from_json(raw: str, size: int) -> bytes | None:
    try:
        found = bytes.fromhex(raw)
    except ValueError:
        return None
    # Blanks between digits are skipped; they are no part of an id.
    return found if len(raw) == 2 * len(found) and len(found) in (0, size) else None


def _add_to_json(record: Any, key: str, text: str) -> None:
    record.attributes = [*record.attributes, KeyValue(key=key, value=AnyValue(stringValue=text))]


def _are_normal_in_protobuf(ids: list[bytes], size: int) -> bool:
    return set(map(len, ids)) <= {size} and bytes(size) not in ids


def _original_in_protobuf(raw: bytes) -> tuple[bytes, str]:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw, raw.hex()
    return raw, text if text.isprintable() else raw.hex()


def _add_to_protobuf(record: Any, key: str, text: str) -> None:
    record.attributes.add(key=key).value.string_value = text


FORMS: Final = {
    Encoding.JSON: Form(
        ids=("traceId", "spanId", "parentSpanId"),
        dropped_links="droppedLinksCount",
        time="timeUnixNano",
        observed_time="observedTimeUnixNano",
        no_time="0",
        write_time=str,
        are_normal=_are_normal_in_json,
        read=_read_from_json,
        write=bytes.hex,
        original=lambda raw: (raw.encode(), raw),
        add_attribute=_add_to_json,
    ),
    Encoding.PROTOBUF: Form(
        ids=("trace_id", "span_id", "parent_span_id"),
        dropped_links="dropped_links_count",
        time="time_unix_nano",
        observed_time="observed_time_unix_nano",
        no_time=0,
        write_time=int,
        are_normal=_are_normal_in_protobuf,
        read=lambda raw, size: raw if len(raw) in (0, size) else None,
        write=bytes,
        original=_original_in_protobuf,
        add_attribute=_add_to_protobuf,
    ),
}
