"""What a body may cost: which bodies are too much for the loop, how far rejected spans may grow."""

import json
from functools import partial
from typing import Any

import pytest

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import Encoding
from relay.otlp import protobuf
from relay.otlp.protobuf import parse
from relay.otlp.signals import LOGS, TRACES, SignalWire
from relay.process.check.rejections import (
    MOST_BYTES_KEPT,
    MOST_KEPT,
    PATHS_A_REASON,
    AllItemsRejected,
    Rejections,
)
from relay.process.check.weight import (
    MOST_AROUND,
    MOST_BYTES,
    MOST_FLAWED,
    MOST_LINKS,
    MOST_MESSAGES,
    MOST_RESOURCES,
    MOST_TOKENS,
    MOST_VALUES,
    is_heavy,
    refuse_many_objects,
)
from relay.process.prepare import Prepare, PrepareSettings
from tests.support import builders

JSON, PROTOBUF = Encoding.JSON, Encoding.PROTOBUF
KIB = 1024
STRICT = Prepare(PrepareSettings(malformed_ids="reject"))


@pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
def test_body_is_heavy_for_its_length(encoding: Encoding) -> None:
    assert not is_heavy(b" " * MOST_BYTES[encoding], encoding)
    assert is_heavy(b" " * (MOST_BYTES[encoding] + 1), encoding)


def usual_request(size: int) -> bytes:
    """Spans with ten short attributes each, as services send them."""
    attributes = [builders.text_attribute(f"http.key.{n}", f"value of {n}") for n in range(10)]
    spans = [builders.span(attributes=attributes) for _ in range(size // 780)]
    return builders.to_body(builders.request(*spans))


def test_usual_body_of_nearly_a_mebibyte_is_not_heavy() -> None:
    body = usual_request(MOST_BYTES[JSON])

    assert 900 * KIB < len(body) <= MOST_BYTES[JSON]
    for _ in range(20):
        refuse_many_objects(body)


@pytest.mark.parametrize("place", ["everywhere", "head", "tail", "scattered"])
def test_dense_body_is_heavy_wherever_its_objects_stand(place: str) -> None:
    """A look at one byte in sixteen finds them, whichever ones it takes."""
    objects, text = b"{}," * 100_000, b" " * 300_000
    body = {
        "everywhere": objects,
        "head": objects + text,
        "tail": text + objects,
        "scattered": (b"{}," * 100 + b" " * 300) * 1000,
    }[place]

    for _ in range(50):
        with pytest.raises(TooHeavy):
            refuse_many_objects(body)


@pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
@pytest.mark.parametrize(
    ("where", "most"),
    [
        ("entries", MOST_RESOURCES),
        ("scopes", MOST_MESSAGES),
        ("spans", MOST_MESSAGES),
        ("bad spans", MOST_FLAWED),
        ("bad links", MOST_FLAWED),
    ],
)
def test_body_of_many_messages_is_too_heavy_only_where_that_is_asked(
    where: str, most: int, encoding: Encoding
) -> None:
    def made(count: int) -> bytes:
        requests: dict[str, builders.Json] = {
            "entries": {"resourceSpans": [{}] * count},
            "scopes": {"resourceSpans": [{"scopeSpans": [{}] * count}]},
            "spans": builders.request(*[builders.span()] * count),
            "bad spans": builders.request(builders.span(), *[builders.span(spanId="")] * count),
            "bad links": builders.request(builders.span(links=[{"traceId": "00"}] * count)),
        }
        return encoded(requests[where], encoding)

    check = STRICT.check
    with pytest.raises(TooHeavy):
        check(made(most + 1), encoding, is_bounded=True)
    check(made(most + 1), encoding)
    check(made(most - 1), encoding, is_bounded=True)


@pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
def test_any_number_of_items_with_good_ids_is_checked_in_the_loop(encoding: Encoding) -> None:
    """They are looked at together; only among those with an odd one each is taken by itself."""
    ids = {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID}
    timed = {"timeUnixNano": builders.START}
    spans = [builders.span(links=[ids])] * (MOST_FLAWED // 2)
    records = [timed | ids, timed] * (MOST_FLAWED // 2)

    def logs(last: builders.Json) -> builders.Json:
        return {"resourceLogs": [{"scopeLogs": [{"logRecords": [*records, timed | last]}]}]}

    for wire, made, odd in (
        (TRACES, builders.request(*spans), builders.request(*spans, builders.span(traceId="a"))),
        (LOGS, logs(ids), logs({"traceId": "abc"})),
        (LOGS, logs(ids), logs({"spanId": "abc"})),
    ):
        check = partial(STRICT.check, encoding=encoding, signal=wire.signal, is_bounded=True)
        checked = check(encoded(made, encoding, wire))
        assert (len(checked.rejections), checked.warnings) == (0, {})
        with pytest.raises(TooHeavy):
            check(encoded(odd, encoding, wire))


def test_many_links_in_protobuf_are_too_heavy_also_where_they_are_good() -> None:
    link = {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID}
    body = encoded(builders.request(builders.span(links=[link] * (MOST_LINKS + 1))), PROTOBUF)

    with pytest.raises(TooHeavy):
        STRICT.check(body, PROTOBUF, is_bounded=True)


@pytest.mark.parametrize("where", ["resource", "scope"])
def test_what_is_around_spans_in_protobuf_is_too_heavy_where_it_has_many_attributes(
    where: str,
) -> None:
    """It is walked when it is new, and copied for each span that is rejected."""

    def made(count: int) -> bytes:
        request = builders.protobuf_twin(builders.request(builders.span()))
        entry = request.resource_spans[0]
        around = entry.resource if where == "resource" else entry.scope_spans[0].scope
        del around.attributes[:]
        for _ in range(count):
            around.attributes.add()
        return request.SerializeToString()

    check = STRICT.check
    with pytest.raises(TooHeavy):
        check(made(MOST_AROUND + 1), PROTOBUF, is_bounded=True)
    check(made(MOST_AROUND + 1), PROTOBUF)
    check(made(MOST_AROUND), PROTOBUF, is_bounded=True)


@pytest.mark.parametrize("where", ["array", "list", "attributes", "events"])
def test_search_for_special_doubles_looks_at_so_many_values_in_the_loop(where: str) -> None:
    """Ten bytes that look like one set it off; the rest may be empty values, two bytes each."""
    bait = {"key": "bait", "value": {"bytesValue": "IQAAAAAAAPB/"}}

    def made(count: int) -> bytes:
        spans: dict[str, builders.Json] = {
            "array": builders.span(
                attributes=[bait, {"key": "k", "value": {"arrayValue": {"values": [{}] * count}}}]
            ),
            "list": builders.span(
                attributes=[
                    bait,
                    {"key": "k", "value": {"kvlistValue": {"values": [{"key": "k"}] * count}}},
                ]
            ),
            "attributes": builders.span(attributes=[bait, *[{"key": "k"}] * count]),
            "events": builders.span(attributes=[bait], events=[{}] * count),
        }
        return encoded(builders.request(spans[where]), PROTOBUF)

    check = STRICT.check
    with pytest.raises(TooHeavy):
        check(made(MOST_VALUES), PROTOBUF, is_bounded=True)
    assert check(made(MOST_VALUES), PROTOBUF).items == 1
    assert check(made(MOST_VALUES - 20), PROTOBUF, is_bounded=True).items == 1


def test_json_that_the_exact_way_must_read_is_too_heavy_only_where_that_is_asked() -> None:
    spans = [builders.span(unknown="key") for _ in range(2000)]
    body = builders.to_body(builders.request(*spans))
    check = STRICT.check

    with pytest.raises(TooHeavy):
        check(body, JSON, is_bounded=True)
    assert check(body, JSON).items == 2000
    assert check(builders.to_body(builders.request(*spans[:100])), JSON, is_bounded=True).items


def test_texts_that_read_like_names_of_lists_do_not_make_a_body_heavy() -> None:
    """What stands twice in an object is for the exact way; what only looks so is not."""
    likely = [builders.text_attribute(name, name) for name in ("spans", "dataPoints")]
    made = builders.request(*[builders.span(attributes=likely)] * 500)
    body = json.dumps(made).encode()

    assert body.count(b",") > MOST_TOKENS
    assert STRICT.check(body, JSON, is_bounded=True).items == 500


def test_json_that_is_read_the_exact_way_is_too_heavy_for_its_messages_too() -> None:
    def made(count: int) -> bytes:
        return builders.to_body({"resourceSpans": [{}] * count, "unknown": 1})

    with pytest.raises(TooHeavy):
        STRICT.check(made(MOST_RESOURCES + 1), JSON, is_bounded=True)
    assert STRICT.check(made(MOST_RESOURCES), JSON, is_bounded=True).items == 0


def encoded(made: builders.Json, encoding: Encoding, wire: SignalWire = TRACES) -> bytes:
    if encoding is JSON:
        return builders.to_body(made)
    body: bytes = builders.protobuf_twin(made, wire.request).SerializeToString()
    return body


BOTH = pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])


@BOTH
def test_all_rejected_spans_are_counted_and_the_first_are_kept(encoding: Encoding) -> None:
    zero, missing = builders.span(traceId="0" * 32), builders.span(spanId=None)
    made = builders.request(*[zero] * 1500, *[missing] * 300, builders.span())
    checked = STRICT.check(encoded(made, encoding), encoding)

    assert len(checked.rejected) == MOST_KEPT
    assert checked.rejections.counts == {"trace_id_zero": 1500, "span_id_missing": 300}
    assert checked.message().startswith("1800 of 1801 spans rejected: trace id all zero in 1500 (")
    # Also of a reason that came too late to be kept, the sender is told some places.
    assert "span id missing in 300 (resourceSpans[0].scopeSpans[0].spans[1500].spanId" in (
        checked.message()
    )
    assert checked.items == 1


@BOTH
def test_body_makes_no_more_dead_letters_than_its_own_bytes_are_good_for(
    encoding: Encoding,
) -> None:
    """Eighty bytes on the wire, of spans that hold nothing."""
    made = builders.request(*[{}] * 1000)
    body = encoded(made, encoding)
    with pytest.raises(AllItemsRejected) as refusal:
        STRICT.check(body, encoding)

    kept = refusal.value.rejected
    assert sum(refusal.value.counts.values()) == 1000
    assert 16 <= len(kept) < 60
    assert sum(len(each.body) for each in kept) < 4 * len(body)


@BOTH
def test_rejected_spans_under_a_large_resource_are_kept_within_bytes(encoding: Encoding) -> None:
    made = builders.request(*[builders.span(spanId=None)] * 500, service="x" * 500_000)
    with pytest.raises(AllItemsRejected) as refusal:
        STRICT.check(encoded(made, encoding), encoding)

    sizes = [len(span.body) for span in refusal.value.rejected]
    assert refusal.value.counts == {"span_id_missing": 500}
    assert MOST_BYTES_KEPT <= sum(sizes) < MOST_BYTES_KEPT + max(sizes)


@BOTH
def test_large_resource_over_many_spans_does_not_become_many_times_the_body(
    encoding: Encoding,
) -> None:
    made = builders.request(*[builders.span() for _ in range(2000)], service="x" * 600_000)
    body = encoded(made, encoding)
    pieces = STRICT.check(body, encoding).request.pieces(512 * KIB)

    assert sum(piece.items for piece in pieces) == 2000
    assert sum(len(piece.body) for piece in pieces) < 2 * len(body)


def test_protobuf_that_the_allocator_has_no_room_for_is_no_damaged_body() -> None:
    """The parser says both with one exception; a sender must not be told that its bytes are bad."""
    from google.protobuf.message import DecodeError

    class Parser:
        @staticmethod
        def FromString(_body: bytes) -> None:  # noqa: N802 - as the parser calls it
            raise DecodeError("Error parsing message with type 'x': Arena alloc failed")

    with pytest.raises(MemoryError):
        parse(b"", TRACES._replace(request=Parser))  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="damaged"):
        parse(b"\x0a\x05\x00", TRACES)


def test_json_that_the_fast_way_gives_up_late_is_read_once_more() -> None:
    """And names a path: nothing of the first reading is left that could stand for it."""
    made = builders.request(builders.span(), builders.span(kind="no such kind"))
    (rejected,) = STRICT.check(json.dumps(made).encode(), JSON).rejected

    assert rejected.path == "resourceSpans[0].scopeSpans[0].spans[1].kind"


class Moving(list[int]):
    """A list that counts how many items each deletion moves."""

    moved = 0

    def __delitem__(self, key: Any) -> None:
        if isinstance(key, int):
            self.moved += len(self) - key
        super().__delitem__(key)


@pytest.mark.parametrize("every", [1, 2, 3, 500])
def test_taking_out_rejected_spans_is_not_quadratic(every: int) -> None:
    spans = Moving(range(40_000))
    protobuf.take_out(spans, list(range(0, 40_000, every)))

    assert spans == [number for number in range(40_000) if number % every]
    assert spans.moved <= 64 * 40_000


def test_sender_is_told_where_the_first_few_of_each_reason_stand() -> None:
    rejections = Rejections(TRACES, JSON)
    for number in range(PATHS_A_REASON + 3):
        rejections.add(("trace_id_zero", "traceId"), (0, 1, number), "", lambda: b"{}")

    expected = [f"resourceSpans[0].scopeSpans[1].spans[{n}].traceId" for n in range(PATHS_A_REASON)]
    assert rejections.paths == {"trace_id_zero": expected}
    assert len(rejections) == len(rejections.kept) == PATHS_A_REASON + 3
