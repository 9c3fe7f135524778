"""Every fixture's answer, and each rule of the check in both encodings."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.errors import Refusal
from relay.model.records import Encoding
from relay.process.check.rejections import AllItemsRejected
from relay.process.prepare import Checked, Prepare, PrepareSettings
from tests.support import builders
from tests.support.examples import examples
from tests.support.fixtures import NEW_NS, Fixture, fixtures_of

FIXTURES = Path(__file__).parents[2] / "fixtures"
ALL = fixtures_of("traces")
# Flaws that only JSON can have: what they hold has no twin in protobuf.
WITHOUT_TWIN = {"15", "16", "21", "23", "24", "27", "31"}
LIMIT = 2**40

Mode = Literal["reject", "derive", "auto"]


def check(
    body: bytes,
    encoding: Encoding = Encoding.JSON,
    mode: Mode = "reject",
    now_ns: int = int(builders.END),
) -> Checked:
    prepare = Prepare(PrepareSettings(malformed_ids=mode), clock_ns=lambda: now_ns)
    return prepare.check(body, encoding)


def answer(body: bytes, encoding: Encoding) -> dict[str, Any]:
    """What a fixture's expectation says, as it came out."""
    try:
        checked = check(body, encoding, now_ns=NEW_NS)
    except AllItemsRejected as refusal:
        return {"status": refusal.status, "rejected": len(refusal.rejected), "accepted": 0}
    except Refusal as refusal:
        return {"status": refusal.status, "rejected": None, "accepted": 0}
    return {
        "status": 200,
        "rejected": len(checked.rejected),
        "accepted": checked.items,
        "warning": bool(checked.warnings),
    }


@pytest.mark.parametrize("fixture", ALL, ids=str)
def test_fixture_is_answered_as_expected(fixture: Fixture) -> None:
    expected = fixture.expected
    got = answer(fixture.body, Encoding.JSON)
    if (
        fixture.name == "21_wrong_types"
    ):  # its only span is rejected, which a response of 400 does not say
        assert got.pop("rejected") == 1
        got["rejected"] = None

    assert {key: got[key] for key in ("status", "rejected", "accepted")} == {
        key: expected[key] for key in ("status", "rejected", "accepted")
    }
    if got["status"] == 200:
        assert got["warning"] == expected.get("warning", False)


@pytest.mark.parametrize(
    "fixture", [each for each in ALL if each.name[:2] not in WITHOUT_TWIN], ids=str
)
def test_protobuf_twin_of_a_fixture_is_answered_as_expected(fixture: Fixture) -> None:
    made = json.loads(fixture.body)
    expected = fixture.expected
    got = answer(builders.protobuf_twin(made).SerializeToString(), Encoding.PROTOBUF)

    assert {key: got[key] for key in ("status", "rejected", "accepted")} == {
        key: expected[key] for key in ("status", "rejected", "accepted")
    }


BOTH = pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])


def encoded(made: builders.Json, encoding: Encoding) -> bytes:
    if encoding is Encoding.JSON:
        return builders.to_body(made)
    return builders.protobuf_twin(made).SerializeToString()


def relayed(checked: Checked, encoding: Encoding) -> ExportTraceServiceRequest:
    """What remains, as the official message, whatever the encoding."""
    return message_of(b",".join(p.body for p in checked.request.pieces(LIMIT)), encoding)


def message_of(fragment: bytes, encoding: Encoding) -> ExportTraceServiceRequest:
    if encoding is Encoding.PROTOBUF:
        return ExportTraceServiceRequest.FromString(fragment)
    return builders.protobuf_twin({"resourceSpans": json.loads(b"[%b]" % fragment)})


def only_span(checked: Checked, encoding: Encoding) -> Any:
    (span,) = relayed(checked, encoding).resource_spans[0].scope_spans[0].spans
    return span


@BOTH
@given(made=builders.requests)
@settings(max_examples=examples(40), deadline=None)
def test_valid_request_is_unchanged_span_for_span(encoding: Encoding, made: builders.Json) -> None:
    checked = check(encoded(made, encoding), encoding)

    assert checked.items == len(builders.spans_of(made))
    assert checked.rejected == ()
    # Compared as bytes: NaN is equal to itself there.
    assert relayed(checked, encoding).SerializeToString(deterministic=True) == (
        builders.protobuf_twin(made).SerializeToString(deterministic=True)
    )


ZERO_TRACE, ZERO_SPAN = "0" * 32, "0" * 16
BAD_IDS: list[tuple[builders.Json, str, str]] = [
    ({"traceId": None}, "trace_id_missing", "traceId"),
    ({"traceId": ""}, "trace_id_missing", "traceId"),
    ({"traceId": ZERO_TRACE}, "trace_id_zero", "traceId"),
    ({"traceId": "abcd"}, "trace_id_malformed", "traceId"),
    ({"traceId": "order_processing_001"}, "trace_id_malformed", "traceId"),
    ({"spanId": None}, "span_id_missing", "spanId"),
    ({"spanId": ZERO_SPAN}, "span_id_zero", "spanId"),
    ({"spanId": "t61rcWkgMzE="}, "span_id_malformed", "spanId"),
    ({"parentSpanId": "xyz"}, "parent_span_id_malformed", "parentSpanId"),
]


@BOTH
@pytest.mark.parametrize(("flaw", "reason", "member"), BAD_IDS)
def test_span_with_a_bad_id_is_rejected_alone(
    encoding: Encoding, flaw: builders.Json, reason: str, member: str
) -> None:
    bad = builders.span(name="bad", **flaw)
    made = builders.request(builders.span(), bad, builders.span(name="after"))
    checked = check(encoded(made, encoding), encoding)
    (rejected,) = checked.rejected

    assert checked.items == 2
    assert rejected.reason == reason
    assert rejected.path == f"resourceSpans[0].scopeSpans[0].spans[1].{member}"
    assert rejected.encoding is encoding
    assert message_of(rejected.body, encoding) == builders.protobuf_twin(builders.request(bad))
    kept = relayed(checked, encoding).resource_spans[0].scope_spans[0].spans
    assert [span.name for span in kept] == ["op", "after"]
    assert rejected.path in checked.message()
    assert checked.message().startswith("1 of 3 spans rejected: ")


@pytest.mark.parametrize(
    "text",
    ["0af7651916cd43dd 448eb211c80319c", "0af7651916cd43dd8448eb211c80319g", "٣" * 32, "İ" * 32],
)
def test_json_trace_id_of_the_right_length_must_be_hex(text: str) -> None:
    made = builders.request(builders.span(), builders.span(traceId=text))

    assert check(builders.to_body(made)).rejected[0].reason == "trace_id_malformed"
    assert check(builders.to_body(made)).rejected[0].trace_id == text


def test_trace_id_of_a_rejected_span_is_cut_at_128_characters() -> None:
    made = builders.request(builders.span(), builders.span(traceId="x" * 500))

    assert check(builders.to_body(made)).rejected[0].trace_id == "x" * 128


def test_upper_case_ids_become_lower_case_everywhere() -> None:
    ids = {"traceId": "0AF7651916CD43DD8448EB211C80319C", "spanId": "B7AD6B7169203331"}
    made = builders.request(builders.span(**ids, parentSpanId="ABCDEF0123456789", links=[ids]))
    checked = check(builders.to_body(made))
    (piece,) = checked.request.pieces(LIMIT)
    lowered = json.loads(builders.to_body(made).lower())

    assert json.loads(piece.body.lower()) == lowered["resourcespans"][0]
    assert not any(part.isupper() for part in piece.body.decode().split('"') if len(part) >= 16)
    assert piece.trace_ids.hex() == builders.TRACE_ID


@BOTH
def test_all_zero_parent_becomes_empty(encoding: Encoding) -> None:
    made = builders.request(builders.span(parentSpanId=ZERO_SPAN))

    assert only_span(check(encoded(made, encoding), encoding), encoding).parent_span_id == b""


@BOTH
def test_link_with_malformed_ids_is_taken_out_and_counted(encoding: Encoding) -> None:
    good = {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID}
    links = [good, {"traceId": "abc", "spanId": builders.SPAN_ID}, {}, {"spanId": "zz"}]
    made = builders.request(builders.span(links=links, droppedLinksCount=3))
    checked = check(encoded(made, encoding), encoding)
    span = only_span(checked, encoding)

    assert [link.span_id.hex() for link in span.links] == [builders.SPAN_ID, ""]
    assert span.dropped_links_count == 5
    assert checked.warnings["link_ids_malformed"] == 2


@BOTH
@pytest.mark.parametrize("size", [2, 15, 17, 31])
@pytest.mark.parametrize("member", ["traceId", "spanId"])
def test_one_link_id_of_a_wrong_length_is_noticed_where_all_else_is_normal(
    encoding: Encoding, member: str, size: int
) -> None:
    link = {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID, member: "ab" * size}
    checked = check(encoded(builders.request(builders.span(links=[link])), encoding), encoding)

    assert list(only_span(checked, encoding).links) == []
    assert checked.warnings["link_ids_malformed"] == 1


@BOTH
def test_dropped_links_never_pass_32_bits(encoding: Encoding) -> None:
    made = builders.request(builders.span(links=[{"traceId": "abc"}], droppedLinksCount=2**32 - 1))

    span = only_span(check(encoded(made, encoding), encoding), encoding)
    assert span.dropped_links_count == 2**32 - 1


def derived(text: str, size: int) -> str:
    return hashlib.sha256(text.encode()).digest()[:size].hex()


@BOTH
@pytest.mark.parametrize(
    ("mode", "service", "scope", "is_derived"),
    [
        ("derive", "shop", "lib", True),
        ("auto", "openrouter", "lib", True),
        ("auto", "shop", "openrouter", True),
        ("auto", "shop", "lib", False),
        ("reject", "openrouter", "openrouter", False),
    ],
)
def test_malformed_ids_are_derived_or_rejected_by_mode(
    encoding: Encoding, mode: Mode, service: str, scope: str, is_derived: bool
) -> None:
    odd = builders.span(traceId="app_trace_001", spanId="my-span", parentSpanId="my-parent")
    made = builders.request(odd, builders.span(), service=service, scope=scope)
    checked = check(encoded(made, encoding), encoding, mode)

    assert checked.items == 1 + is_derived
    if not is_derived:
        assert checked.rejected[0].reason == "trace_id_malformed"
        return
    span = relayed(checked, encoding).resource_spans[0].scope_spans[0].spans[0]
    assert span.trace_id.hex() == derived("app_trace_001", 16)
    assert span.span_id.hex() == derived("my-span", 8)
    assert span.parent_span_id.hex() == derived("my-parent", 8)
    assert {pair.key: pair.value.string_value for pair in span.attributes} == {
        "relay.original_trace_id": "app_trace_001",
        "relay.original_span_id": "my-span",
        "relay.original_parent_span_id": "my-parent",
    }
    assert checked.warnings == {"ids_derived": 1}


LEGIBLE = [
    ("traceId", "0af76519-16cd-43dd-8448-eb211c80319c", "0af7651916cd43dd8448eb211c80319c"),
    ("traceId", "0AF76519-16CD-43DD-8448-EB211C80319C", "0af7651916cd43dd8448eb211c80319c"),
    ("traceId", "0x0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319c"),
    ("traceId", "CvdlGRbNQ92ESOshHIAxnA==", "0af7651916cd43dd8448eb211c80319c"),
    ("spanId", "t61rcWkgMzE=", "b7ad6b7169203331"),
    ("spanId", "t61rcWkgM_E=", "b7ad6b71692033f1"),
    ("spanId", "0xb7ad6b7169203331", "b7ad6b7169203331"),
    ("parentSpanId", " b7ad6b7169203331", "b7ad6b7169203331"),
]


@BOTH
@pytest.mark.parametrize(("member", "sent", "read_as"), LEGIBLE)
def test_id_in_another_spelling_is_read_before_any_is_hashed(
    encoding: Encoding, member: str, sent: str, read_as: str
) -> None:
    made = builders.request(builders.span(**{member: sent}), builders.span())
    checked = check(encoded(made, encoding), encoding, "derive")
    span = relayed(checked, encoding).resource_spans[0].scope_spans[0].spans[0]

    name = {"traceId": "trace_id", "spanId": "span_id", "parentSpanId": "parent_span_id"}[member]
    assert getattr(span, name).hex() == read_as
    assert [(pair.key, pair.value.string_value) for pair in span.attributes] == [
        (f"relay.original_{name}", sent)
    ]
    assert checked.warnings == {"ids_derived": 1}
    assert (
        check(encoded(made, encoding), encoding, "reject").rejected[0].reason == f"{name}_malformed"
    )


@BOTH
@pytest.mark.parametrize(
    "sent",
    [
        *("my-span-001", "abc", "CvdlGRbNQ92ESOsh", "c3Bhbm5lcg==", "8448eb211c80319", "=", "0x"),
        "t62rcW?kgMzE=",  # base64 but for one character
    ],
)
def test_text_that_is_no_id_in_any_spelling_is_hashed(encoding: Encoding, sent: str) -> None:
    made = builders.request(builders.span(spanId=sent))

    found = only_span(check(encoded(made, encoding), encoding, "derive"), encoding)
    assert found.span_id.hex() == derived(sent, 8)


def test_half_a_trace_id_is_read_as_one_of_64_bits() -> None:
    made = builders.request(builders.span(traceId="8448eb211c80319c"))
    span = only_span(check(builders.to_body(made), Encoding.JSON, "derive"), Encoding.JSON)

    assert span.trace_id.hex() == "00000000000000008448eb211c80319c"


@BOTH
def test_uuid_of_zeros_is_a_trace_id_of_zeros(encoding: Encoding) -> None:
    nil = "00000000-0000-0000-0000-000000000000"
    made = builders.request(builders.span(traceId=nil), builders.span())

    checked = check(encoded(made, encoding), encoding, "derive")
    assert [each.reason for each in checked.rejected] == ["trace_id_zero"]


@BOTH
@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        ({"traceId": None}, "trace_id_missing"),
        ({"traceId": ZERO_TRACE}, "trace_id_zero"),
        ({"spanId": None}, "span_id_missing"),
        ({"spanId": ZERO_SPAN}, "span_id_zero"),
    ],
)
def test_zero_and_missing_ids_are_rejected_in_derive_mode_too(
    encoding: Encoding, flaw: builders.Json, reason: str
) -> None:
    made = builders.request(builders.span(**({"parentSpanId": "odd"} | flaw)), builders.span())
    checked = check(encoded(made, encoding), encoding, "derive")

    assert [span.reason for span in checked.rejected] == [reason]
    assert "relay.original" not in repr(checked.rejected[0].body)


@BOTH
def test_link_to_a_derived_trace_meets_it(encoding: Encoding) -> None:
    link = {"traceId": "app_trace_001", "spanId": "my-span"}
    made = builders.request(builders.span(**link), builders.span(links=[link]))
    checked = check(encoded(made, encoding), encoding, "derive")
    first, second = relayed(checked, encoding).resource_spans[0].scope_spans[0].spans

    assert (second.links[0].trace_id, second.links[0].span_id) == (first.trace_id, first.span_id)
    assert second.dropped_links_count == 0
    assert checked.warnings == {"ids_derived": 2}  # of a span, and of a link


def test_original_protobuf_id_that_is_no_text_is_kept_as_hex() -> None:
    message = builders.protobuf_twin(builders.request(builders.span()))
    message.resource_spans[0].scope_spans[0].spans[0].trace_id = b"\xff\x00\x01"
    checked = check(message.SerializeToString(), Encoding.PROTOBUF, "derive")

    (pair,) = only_span(checked, Encoding.PROTOBUF).attributes
    assert pair.value.string_value == "ff0001"


@BOTH
def test_request_whose_spans_are_all_bad_is_refused_with_them(encoding: Encoding) -> None:
    made = builders.request(builders.span(traceId=ZERO_TRACE), builders.span(spanId=ZERO_SPAN))

    with pytest.raises(AllItemsRejected, match=r"^all 2 spans rejected: ") as refusal:
        check(encoded(made, encoding), encoding)
    assert (refusal.value.status, refusal.value.grpc_code) == (400, 3)
    assert [span.reason for span in refusal.value.rejected] == ["trace_id_zero", "span_id_zero"]


def test_protobuf_logs_body_is_named_as_such() -> None:
    logs = ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano = 5
    record.body.string_value = "a line of a log"

    with pytest.raises(AllItemsRejected, match="looks like a logs body") as refusal:
        check(logs.SerializeToString(), Encoding.PROTOBUF)
    assert "a line of a log" not in refusal.value.message


@pytest.mark.parametrize(
    ("key", "words"), [("resourceLogs", "logs body"), ("resourceMetrics", "metrics body")]
)
def test_json_body_of_another_signal_is_accepted_with_a_warning(key: str, words: str) -> None:
    checked = check(builders.to_body({key: []}))

    assert (checked.items, checked.rejected) == (0, ())
    assert words in checked.message()


ODD_BUT_VALID: list[tuple[builders.Json, dict[str, int]]] = [
    ({"endTimeUnixNano": str(int(builders.START) - 1)}, {"end_before_start": 1}),
    (
        {"startTimeUnixNano": "100", "endTimeUnixNano": "99"},
        {"end_before_start": 1, "time_before_2000": 1},
    ),
    ({"startTimeUnixNano": "99", "endTimeUnixNano": "100"}, {"time_before_2000": 1}),
    ({"startTimeUnixNano": builders.START, "endTimeUnixNano": builders.START}, {}),
    ({"startTimeUnixNano": None}, {"start_time_missing": 1}),
    ({"endTimeUnixNano": "0"}, {"end_time_missing": 1}),
    ({"name": ""}, {"name_empty": 1}),
    ({"attributes": [builders.text_attribute("", "x")]}, {"attribute_key_empty": 1}),
    ({"attributes": [builders.text_attribute("k", "x")] * 3}, {"attribute_key_duplicate": 1}),
    ({"attributes": [{"keyStrindex": 3}, {"keyStrindex": 4}]}, {"string_index": 1}),
    ({"traceId": "0" * 16 + "1" * 16}, {}),
    ({"attributes": [{"key": "d", "value": {"doubleValue": "NaN"}}]}, {}),
    ({"kind": 99, "flags": 2**32 - 1}, {}),
]


@BOTH
@pytest.mark.parametrize(("members", "warnings"), ODD_BUT_VALID)
def test_flaw_that_makes_no_span_invalid_is_counted_and_kept(
    encoding: Encoding, members: builders.Json, warnings: dict[str, int]
) -> None:
    made = builders.request(builders.span(**members), builders.span())
    checked = check(encoded(made, encoding), encoding)

    if members.get("attributes") == [{"keyStrindex": 3}, {"keyStrindex": 4}]:
        checked.warnings.pop("attribute_key_duplicate", None)
    assert checked.warnings == warnings
    assert bool(checked.message()) == bool(warnings)
    assert relayed(checked, encoding) == builders.protobuf_twin(made) or "NaN" in str(members)


@BOTH
def test_missing_service_name_is_no_warning(encoding: Encoding) -> None:
    checked = check(encoded(builders.request(builders.span(), service=""), encoding), encoding)

    assert checked.message() == ""


@BOTH
def test_envelopes_without_spans_are_dropped_and_paths_stay_the_senders(
    encoding: Encoding,
) -> None:
    made = builders.request(service="empty")
    made["resourceSpans"] += builders.request(builders.span(), service="full")["resourceSpans"]
    made["resourceSpans"][1]["scopeSpans"].insert(0, {"scope": {"name": "none"}})
    made["resourceSpans"] += builders.request(builders.span(spanId=ZERO_SPAN))["resourceSpans"]
    checked = check(encoded(made, encoding), encoding)

    assert checked.rejected[0].path == "resourceSpans[2].scopeSpans[0].spans[0].spanId"
    assert checked.request.pieces(LIMIT)[0].services == ("full",)
    assert [known.service for known in checked.request.resources] == ["full"]
    kept = builders.request(builders.span(), service="full")
    assert relayed(checked, encoding) == builders.protobuf_twin(kept)


@BOTH
def test_rejected_and_enriched_span_leave_a_fragment_with_the_resource_set(
    encoding: Encoding,
) -> None:
    made = builders.request(builders.span(), builders.span(spanId=ZERO_SPAN))
    checked = check(encoded(made, encoding), encoding)
    resource = {"attributes": [builders.text_attribute("host.name", "h")]}
    encoded_resource = (
        builders.to_body(resource)
        if encoding is Encoding.JSON
        else builders.protobuf_twin({"resourceSpans": [{"resource": resource}]})
        .resource_spans[0]
        .resource.SerializeToString()
    )

    (piece,) = checked.request.pieces(LIMIT, [encoded_resource])
    (entry,) = message_of(piece.body, encoding).resource_spans
    assert [pair.key for pair in entry.resource.attributes] == ["host.name"]
    assert len(entry.scope_spans[0].spans) == 1


def test_empty_bodies_differ_by_encoding() -> None:
    assert check(b"", Encoding.PROTOBUF).items == 0
    with pytest.raises(Refusal, match="is empty"):
        check(b"", Encoding.JSON)


def test_message_is_cut_at_a_kibibyte_and_names_a_few_paths() -> None:
    bad = [builders.span(**flaw) for flaw, _, _ in BAD_IDS] * 50
    message = check(builders.to_body(builders.request(builders.span(), *bad))).message()

    assert len(message.encode()) <= 1024
    assert message.startswith(
        "450 of 451 spans rejected: trace id missing in 100 (resourceSpans[0]"
    )


NAMES = ("02_full_featured", "18_invalid_ids_mixed", "08_openrouter_chat")
SOUND = [json.loads((FIXTURES / f"{name}.json").read_bytes()) for name in NAMES]


@st.composite
def damaged(draw: st.DrawFn, encoding: Encoding) -> bytes:
    """A body in which a few bytes were replaced."""
    body = encoded(draw(st.sampled_from(SOUND)), encoding)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return body


@pytest.mark.parametrize("mode", ["reject", "derive", "auto"])
@BOTH
@settings(max_examples=examples(100), deadline=None)
@given(data=st.data())
def test_fuzzed_body_is_kept_or_refused_and_nothing_else(
    mode: Mode, encoding: Encoding, data: st.DataObject
) -> None:
    body = data.draw(st.one_of(damaged(encoding), st.binary(max_size=50)))
    try:
        checked = check(body, encoding, mode)
    except Refusal:
        return

    assert sum(piece.items for piece in checked.request.pieces(300)) == checked.items
    checked.message()


# --- what cannot be read costs itself alone ------------------------------------------------------


def test_good_spans_beside_one_that_cannot_be_read_are_kept() -> None:
    flaws: list[builders.Json] = [
        {"status": {"code": "ERROR!"}},
        {"startTimeUnixNano": "2026-01-01"},
    ]
    bad = [builders.span(**flaw) for flaw in [*flaws, {"attributes": {"a": 1}}]]
    text: Any = "text"
    made = builders.request(bad[0], builders.span(name="good"), *bad[1:], text)
    checked = check(builders.to_body(made))

    assert checked.items == 1
    assert {each.reason for each in checked.rejected} == {"value_malformed"}
    assert [
        each.path.removeprefix("resourceSpans[0].scopeSpans[0].") for each in checked.rejected
    ] == [
        "spans[0].status.code",
        "spans[2].startTimeUnixNano",
        "spans[3].attributes",
        "spans[4]",
    ]
    assert checked.message().startswith(
        "4 of 5 spans rejected: a member that cannot be read in 4 (resourceSpans[0]"
    )
    # As they were sent, and under what was around them.
    for each, sent in zip(checked.rejected, [*bad, "text"], strict=True):
        entry = json.loads(each.body)
        assert entry["resource"] == made["resourceSpans"][0]["resource"]
        assert entry["scopeSpans"] == [{"scope": {"name": "lib"}, "spans": [sent]}]
    assert checked.rejected[0].trace_id == builders.TRACE_ID
    assert [checked.rejected[0].items, checked.rejected[3].trace_id] == [1, ""]


def test_link_whose_id_is_no_text_costs_itself_alone() -> None:
    links = [{"traceId": 5}, {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID}]
    checked = check(builders.to_body(builders.request(builders.span(links=links))))
    span = only_span(checked, Encoding.JSON)

    assert [link.trace_id.hex() for link in span.links] == [builders.TRACE_ID]
    assert checked.warnings == {"link_ids_malformed": 1}


def test_path_of_a_bad_id_counts_the_spans_that_could_not_be_read() -> None:
    flawed = builders.span(kind=[])
    bad = builders.span(spanId=ZERO_SPAN)
    made = builders.request(flawed, builders.span(), flawed, bad, flawed, builders.span(), bad)
    checked = check(builders.to_body(made))

    paths = [each.path for each in checked.rejected if each.reason == "span_id_zero"]
    assert paths == [f"resourceSpans[0].scopeSpans[0].spans[{k}].spanId" for k in (3, 6)]


def test_spans_of_which_none_can_be_read_are_refused_and_kept() -> None:
    made = builders.request(builders.span(traceId=5), builders.span(name={}))

    with pytest.raises(
        AllItemsRejected, match="all 2 spans rejected: a member that cannot"
    ) as all_bad:
        check(builders.to_body(made))
    assert all_bad.value.counts == {"value_malformed": 2}
    assert [each.trace_id for each in all_bad.value.rejected] == ["5", builders.TRACE_ID]


def test_body_in_which_nothing_was_found_is_told_by_its_keys() -> None:
    made = {"data": builders.request(builders.span()), "version": 1}
    checked = check(builders.to_body(made))

    assert (checked.items, checked.rejected) == (0, ())
    assert checked.message() == (
        "no span was found in it; keys at the top: data, version;"
        " 2 keys that OTLP does not know were ignored with all they hold (data, version)"
    )


def test_attribute_that_cannot_be_read_is_told_by_its_path() -> None:
    checked = check(builders.to_body(builders.with_value({"doubleValue": {}})))

    assert checked.items == 1
    assert checked.message() == (
        "1 values could not be read and are empty"
        " (resourceSpans[0].scopeSpans[0].spans[0].attributes[0].value.doubleValue)"
    )
