"""Both ways of decoding JSON: what they keep, where they agree, how a request is cut."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import BodyFlag, Encoding
from relay.otlp import messages
from relay.otlp.json import JsonRequest, decode, decode_exact, decode_fast
from relay.otlp.json_values import Unusual
from relay.otlp.resources import ResourceCache
from relay.otlp.signals import LOGS, METRICS, TRACES
from tests.support import builders
from tests.support.examples import examples

LIMIT = 512 * 1024


def relayed(traces: JsonRequest) -> Any:
    """The request as an upstream would read it."""
    return {"resourceSpans": json.loads(b"[%b]" % whole(traces))}


def whole(traces: JsonRequest) -> bytes:
    return b",".join(piece.body for piece in traces.pieces(2**40))


def decoded(made: Any) -> JsonRequest:
    return decode(builders.to_body(made), ResourceCache())


@settings(max_examples=examples(60), deadline=None)
@given(made=builders.requests)
def test_fast_way_keeps_every_member_of_any_valid_request(made: builders.Json) -> None:
    traces = decode_fast(builders.to_body(made), ResourceCache())

    assert relayed(traces) == made
    assert traces.findings.flags & BodyFlag.DEEP == BodyFlag.NONE


@settings(max_examples=examples(60), deadline=None)
@given(made=builders.requests, indent=st.sampled_from([None, 0, 1]), ascii_only=st.booleans())
def test_exact_way_agrees_with_the_fast_way(
    made: builders.Json, indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(made, indent=indent, ensure_ascii=ascii_only).encode()
    fast, exact = decode_fast(body, ResourceCache()), decode_exact(body, ResourceCache())

    assert whole(fast) == whole(exact)
    assert fast.findings == exact.findings


ODD_VALUES = st.one_of(
    builders.any_values,
    st.sampled_from(
        [
            {"intValue": 7},
            {"intValue": -0},
            {"intValue": "007"},
            {"intValue": "-0"},
            {"intValue": 2**63},
            {"intValue": str(2**63)},
            {"intValue": "1,2"},
            {"intValue": ""},
            {"intValue": "٣"},
            {"intValue": True},
            {"intValue": 1.0},
            {"doubleValue": 1},
            {"doubleValue": "1.5"},
            {"doubleValue": "nan"},
            {"doubleValue": 10**400},
            {"bytesValue": "_-8"},
            {"bytesValue": "A"},
            {"boolValue": 1},
            {"stringValue": "a", "intValue": "1"},
            {"boolValue": True, "doubleValue": 2.5},
            {"intValue": "1", "arrayValue": {}},
            {"stringValueStrindex": 4},
            {"stringValueStrindex": 4, "stringValue": "x"},
            {"arrayValue": {"values": [{"stringValue": "a", "boolValue": False}]}},
            {"stringValue": None},
            {"other": 1},
            None,
        ]
    ),
)
ODD_SPANS = st.fixed_dictionaries(
    {},
    optional={
        "startTimeUnixNano": st.sampled_from(
            ["0", "7", 7, 0, "18446744073709551616", 2**64 - 1, "-1", " 1", "", "0" + "1" * 18]
        ),
        "attributes": st.lists(
            st.one_of(
                st.fixed_dictionaries({"key": builders.texts, "value": ODD_VALUES}),
                st.fixed_dictionaries({"key": builders.texts}),
            ),
            max_size=4,
        ),
        "flags": st.sampled_from([0, 1, 2**32, "3"]),
        "events": st.lists(st.fixed_dictionaries({"timeUnixNano": st.sampled_from(["5", 5])})),
    },
)


@settings(max_examples=examples(400), deadline=None)
@given(odd=st.lists(ODD_SPANS, max_size=3))
def test_exact_way_agrees_with_whatever_the_fast_way_accepts(odd: list[builders.Json]) -> None:
    body = builders.to_body(builders.request(*[builders.span() | span for span in odd]))
    try:
        fast = decode_fast(body, ResourceCache())
    except (Unusual, ValueError):
        return
    exact = decode_exact(body, ResourceCache())

    assert whole(fast) == whole(exact)
    assert fast.findings == exact.findings


def test_white_space_is_not_relayed() -> None:
    made = builders.request(builders.span())
    spaced = decode(json.dumps(made, indent=4).encode(), ResourceCache())

    assert whole(spaced) == whole(decoded(made))


def test_integers_that_came_as_numbers_become_decimal_strings() -> None:
    made = builders.request(
        builders.span(
            startTimeUnixNano=1767225600000000000,
            attributes=[{"key": "i", "value": {"intValue": -42}}],
        )
    )
    span = builders.spans_of(relayed(decoded(made)))[0]

    assert span["startTimeUnixNano"] == "1767225600000000000"
    assert span["attributes"][0]["value"] == {"intValue": "-42"}


def test_last_of_duplicate_keys_wins() -> None:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","name":"b"}]}]}]}'

    for way in (decode_fast, decode_exact):
        assert relayed(way(body, ResourceCache()))["resourceSpans"][0]["scopeSpans"] == [
            {"spans": [{"name": "b"}]}
        ]


TWICE = [
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b],"spans":[%b]}]}]}',
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b]}],"scopeSpans":[{"spans":[%b]}]}]}',
    (
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b]}]}],'
        b'"resourceSpans":[{"scopeSpans":[{"spans":[%b]}]}]}'
    ),
]


@pytest.mark.parametrize("twice", TWICE)
def test_no_span_is_lost_where_a_list_stands_twice(twice: bytes) -> None:
    least = {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID}
    values = [{"key": "k", "value": {"intValue": number}} for number in range(3)]
    first = builders.to_body(least)
    second = builders.to_body(builders.span(attributes=values))
    found = decode(twice % (first, second), ResourceCache())

    assert [span.name for span in found.records] == ["", "op"]


def short_span(**members: Any) -> str:
    return json.dumps({"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID, **members})


@pytest.mark.parametrize(
    "grows",
    [
        {"startTimeUnixNano": 1795974408242217760},
        {"attributes": [{"key": "k", "value": {"intValue": 5}}]},
        {"attributes": [{"key": "k", "value": {"doubleValue": 5}}]},
        {"attributes": [{"key": "k", "value": {"doubleValue": 1e15}}]},
        {"attributes": [{"key": "k", "value": {"doubleValue": 5e-5}}]},
        {"events": [{"timeUnixNano": 1795974408242217760}]},
    ],
)
@pytest.mark.parametrize("twice", TWICE)
def test_no_span_is_lost_where_a_list_stands_twice_beside_numbers_that_become_longer(
    grows: builders.Json, twice: bytes
) -> None:
    first = short_span().encode()
    second = ",".join([short_span(**grows)] * 100).replace(" ", "").encode()

    assert len(decode(twice % (first, second), ResourceCache()).records) == 101


@pytest.mark.parametrize("kept", ["{}", '{"severityText":"y"}'])
@pytest.mark.parametrize(
    "around", ["%s", '{"resource":{"attributes":[]},"scopeLogs":[%s],"schemaUrl":"a"}']
)
def test_no_record_is_lost_with_a_list_however_short(kept: str, around: str) -> None:
    scope = f'{{"logRecords":[{{}}],"logRecords":[{kept}]}}'
    entry = around % scope if around != "%s" else f'{{"scopeLogs":[{scope}]}}'
    body = f'{{"resourceLogs":[{entry}]}}'.encode()

    assert len(decode(body, ResourceCache(), LOGS).records) == 2


def test_no_point_is_lost_with_a_list_beside_numbers_that_become_longer() -> None:
    points = ",".join(['{"timeUnixNano":1795974408242217760,"asInt":5}'] * 100)
    metric = f'{{"name":"n","gauge":{{"dataPoints":[{{}}],"dataPoints":[{points}]}}}}'
    body = f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}'.encode()

    assert decode(body, ResourceCache(), METRICS).count_items() == 101


def test_name_of_a_list_as_a_text_is_no_second_list() -> None:
    made = builders.request(*[builders.span(name="spans") for _ in range(9)])
    body = json.dumps(made, indent=4).encode()

    assert relayed(decode_fast(body, ResourceCache())) == made


def test_body_in_normal_form_is_not_looked_through_for_lists_that_were_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That would take as long as decoding it."""
    url = "https://schema.example/" + "u" * 100
    made: builders.Json = {"resourceSpans": []}
    for _ in range(9):
        made["resourceSpans"] += builders.request(builders.span())["resourceSpans"]
        made["resourceSpans"][-1]["schemaUrl"] = url
    monkeypatch.setattr(JsonRequest, "has_lost_a_list", lambda *_: pytest.fail("looked"))

    assert relayed(decode_fast(builders.to_body(made), ResourceCache())) == made


@pytest.mark.parametrize("way", [decode, decode_fast, decode_exact])
def test_request_of_too_many_messages_is_not_looked_at_further(way: Any) -> None:
    seen: list[Any] = []

    def weigh(request: Any) -> None:
        seen.append(len(request.resourceSpans[0].scopeSpans[0].spans))
        raise TooHeavy

    with pytest.raises(TooHeavy):
        way(
            builders.to_body(builders.request(*[builders.span()] * 3)),
            ResourceCache(),
            TRACES,
            weigh,
        )
    assert seen == [3]


def test_request_is_whole_up_to_the_limit_and_cut_by_one_byte_less() -> None:
    found = decoded(builders.request(builders.span(), builders.span()))
    size = len(whole(found))

    assert [piece.items for piece in found.pieces(size)] == [2]
    assert [piece.items for piece in found.pieces(size - 1)] == [1, 1]
    assert [piece.items for piece in found.pieces(1)] == [1, 1]
    assert [piece.items for piece in decoded(builders.request(builders.span())).pieces(1)] == [1]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('"stringValue":"a","intValue":"1"', {"intValue": "1"}),
        ('"intValue":"1","stringValue":"a"', {"stringValue": "a"}),
        ('"intValue":"1","stringValue":"a","intValue":"2"', {"intValue": "2"}),
        ('"boolValue":true,"doubleValue":1.5', {"doubleValue": 1.5}),
        ('"doubleValue":1.5,"boolValue":true', {"boolValue": True}),
        ('"arrayValue":{},"intValue":5', {"intValue": "5"}),
        ('"stringValueStrindex":3,"stringValue":"a"', {"stringValue": "a"}),
        ('"boolValue":true,"stringValue":"a"', {"stringValue": "a"}),
        ('"doubleValue":1.5,"stringValue":"a"', {"stringValue": "a"}),
        ('"bytesValue":"AA==","stringValue":"a"', {"stringValue": "a"}),
        ('"arrayValue":{},"stringValue":"a"', {"stringValue": "a"}),
        ('"stringValue":"a","boolValue":null', {"stringValue": "a"}),
        ('"stringValue":"a","stringValue":null', {}),
    ],
)
@pytest.mark.parametrize(
    "around",
    ["%s", '"arrayValue":{"values":[{%s}]}', '"kvlistValue":{"values":[{"key":"n","value":{%s}}]}'],
)
@pytest.mark.parametrize("name", ["op", "a name as long as a prompt " * 200], ids=["short", "long"])
def test_last_of_two_members_of_a_value_wins(
    text: str, kept: builders.Json, around: str, name: str
) -> None:
    attribute = {"key": "k", "value": "HERE"}
    made = builders.request(builders.span(name=name, attributes=[attribute]))
    body = builders.to_body(made).replace(b'"HERE"', f"{{{around % text}}}".encode())
    value = builders.spans_of(relayed(decode(body, ResourceCache())))[0]["attributes"][0]["value"]

    held = around % json.dumps(kept)[1:-1]
    assert value == json.loads(f"{{{held}}}")


def test_last_of_two_members_wins_in_what_an_event_holds_beside_long_texts() -> None:
    event = {"name": "prompt " * 1000, "attributes": [{"key": "k", "value": "HERE"}]}
    body = builders.to_body(builders.request(builders.span(events=[event]))).replace(
        b'"HERE"', b'{"intValue":"1","stringValue":"a"}'
    )
    (relayed_event,) = builders.spans_of(relayed(decode(body, ResourceCache())))[0]["events"]

    assert relayed_event["attributes"][0]["value"] == {"stringValue": "a"}


def test_last_of_two_members_wins_in_a_long_log_record() -> None:
    said = {"stringValue": "prompt " * 1000}
    record = {"timeUnixNano": "1", "body": "HERE"}
    made = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    two = '{"intValue":"1",' + json.dumps(said)[1:]
    body = builders.to_body(made).replace(b'"HERE"', two.encode())
    (piece,) = decode(body, ResourceCache(), LOGS).pieces(2**40)

    (scope,) = json.loads(piece.body)["scopeLogs"]
    assert scope["logRecords"][0]["body"] == said


def test_text_that_looks_like_a_second_member_is_no_second_member() -> None:
    text = 'x","stringValue":"y'
    traces = decode_fast(
        builders.to_body(builders.with_value({"stringValue": text})), ResourceCache()
    )

    assert builders.spans_of(relayed(traces))[0]["attributes"][0]["value"] == {"stringValue": text}


@pytest.mark.parametrize("kind", ["arrayValue", "kvlistValue"])
@pytest.mark.parametrize("way", [decode_fast, decode_exact])
@pytest.mark.parametrize(
    ("levels", "flags"),
    [(1, BodyFlag.NONE), (30, BodyFlag.NONE), (31, BodyFlag.DEEP), (200, BodyFlag.DEEP)],
)
def test_nesting_is_marked_when_protobuf_parsers_could_not_take_it(
    kind: str, way: Any, levels: int, flags: BodyFlag
) -> None:
    made = builders.with_value(builders.nested(levels, kind))
    traces = way(builders.to_body(made), ResourceCache())

    assert traces.pieces(LIMIT)[0].flags == flags
    assert relayed(traces) == made


@pytest.mark.parametrize("kind", ["arrayValue", "kvlistValue"])
def test_nesting_beyond_200_levels_is_refused(kind: str) -> None:
    with pytest.raises(Refusal, match="at most 200 levels"):
        decoded(builders.with_value(builders.nested(201, kind)))


BOMBS = [
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"resourceSpans":[{"resource":{"y":' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}",
    b'{"resourceSpans":[{"resource":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]}",
    builders.to_body(builders.with_value("HERE")).replace(
        b'"HERE"', b'{"arrayValue":{"values":[' * 100_000 + b"{}" + b"]}}" * 100_000
    ),
    builders.to_body(builders.with_value("HERE")).replace(
        b'"HERE"',
        b'{"kvlistValue":{"values":[{"key":"k","value":' * 100_000 + b"{}" + b"}]}}" * 100_000,
    ),
    b'"' + b'\\"' * 1_000_000,
    b"[" * 900 + b'"' + b'\\"' * 1_000_000,
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_depth_bomb_is_refused_without_harm(bomb: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        decode(bomb, ResourceCache())

    assert refusal.value.status == 400


def test_special_doubles_stay_text_and_are_marked() -> None:
    for text in ("NaN", "Infinity", "-Infinity"):
        traces = decoded(builders.with_value({"arrayValue": {"values": [{"doubleValue": text}]}}))

        assert traces.pieces(LIMIT)[0].flags == BodyFlag.SPECIAL_DOUBLES
        assert text.encode() in whole(traces)


def test_special_double_of_a_resource_marks_the_request() -> None:
    made = builders.request(builders.span())
    made["resourceSpans"][0]["resource"]["attributes"].append(
        {"key": "d", "value": {"doubleValue": "NaN"}}
    )

    assert decoded(made).pieces(LIMIT)[0].flags == BodyFlag.SPECIAL_DOUBLES


def test_resource_that_only_the_exact_way_reads_leaves_spans_on_the_fast_way() -> None:
    made = builders.request(builders.span())
    made["resourceSpans"][0]["resource"]["newer"] = {"x": [None]}
    traces = decode_fast(builders.to_body(made), ResourceCache())

    del made["resourceSpans"][0]["resource"]["newer"]
    assert relayed(traces) == made


@pytest.mark.parametrize("way", [decode_fast, decode_exact])
def test_resource_that_cannot_be_read_is_told_by_its_path_and_costs_no_span(way: Any) -> None:
    made = builders.request(builders.span(), builders.span())
    made["resourceSpans"] += builders.request(builders.span())["resourceSpans"]
    made["resourceSpans"][1]["resource"] = {"attributes": {"a": "b"}}
    found = way(builders.to_body(made), ResourceCache())

    assert found.count_items() == 3
    assert found.findings.warnings == {"envelope_unreadable": 1}
    assert found.findings.places["envelope_unreadable"] == ["resourceSpans[1].resource.attributes"]
    assert relayed(found)["resourceSpans"][1]["resource"] == {}


@pytest.mark.parametrize("text", [b'"\xff"', b'"\\ud800"'])
def test_resource_text_is_checked_as_the_rest(text: bytes) -> None:
    body = builders.to_body(builders.request(builders.span(), service="HERE"))
    body = body.replace(b'"HERE"', text)
    assert decode(body, ResourceCache()).resources[0].service == "\ufffd"


@pytest.mark.parametrize("absent", [{}, {"resource": None}])
def test_absent_resource_stays_absent_and_an_empty_one_empty(absent: builders.Json) -> None:
    entry = {"scopeSpans": [{"spans": [builders.span()]}]}

    for way in (decode_fast, decode_exact):
        traces = way(builders.to_body({"resourceSpans": [entry | absent]}), ResourceCache())
        assert "resource" not in relayed(traces)["resourceSpans"][0]
        (piece,) = traces.pieces(LIMIT, [traces.resources[0].normal])
        assert "resource" not in json.loads(piece.body)
        traces = way(
            builders.to_body({"resourceSpans": [entry | {"resource": {}}]}), ResourceCache()
        )
        assert relayed(traces)["resourceSpans"][0]["resource"] == {}


def test_resource_that_is_set_is_what_is_relayed() -> None:
    traces = decoded(builders.request(builders.span()))
    resource = b'{"attributes":[{"key":"host.name","value":{"stringValue":"h"}}]}'
    (piece,) = traces.pieces(LIMIT, [resource])

    assert json.loads(piece.body)["resource"]["attributes"] == [
        builders.text_attribute("host.name", "h")
    ]


def test_piece_tells_what_it_holds() -> None:
    other = "11" * 16
    made = builders.request(builders.span(), builders.span(), builders.span(traceId=other))
    made["resourceSpans"] += builders.request(builders.span(), service="cart")["resourceSpans"]
    made["resourceSpans"] += builders.request(builders.span(), service="")["resourceSpans"]
    (piece,) = decoded(made).pieces(LIMIT)

    assert piece.encoding is Encoding.JSON
    assert piece.items == 5
    assert piece.trace_ids == bytes.fromhex(builders.TRACE_ID + other)
    assert piece.services == ("shop", "cart")


def test_request_without_spans_makes_no_piece() -> None:
    empty: list[builders.Json] = [{}, {"resourceSpans": []}, builders.request()]
    for made in empty:
        assert decoded(made).pieces(LIMIT) == ()


@settings(max_examples=examples(60), deadline=None)
@given(made=builders.requests, limit=st.integers(200, 1500))
def test_pieces_are_within_the_limit_and_lose_nothing(made: builders.Json, limit: int) -> None:
    traces = decoded(made)
    pieces = traces.pieces(limit)

    texts = iter([len(messages.encode(span)) for span in traces.records])
    for piece in pieces:
        rest = len(piece.body) - sum(next(texts) for _ in range(piece.items))
        assert len(piece.body) <= max(limit, 2 * rest) or piece.items == 1
    assert sum(piece.items for piece in pieces) == len(traces.records)
    fragments = [{"resourceSpans": json.loads(b"[%b]" % piece.body)} for piece in pieces]
    spans = [span for fragment in fragments for span in builders.spans_of(fragment)]
    assert spans == builders.spans_of(made)
    around = [
        (entry.get("resource"), entry.get("schemaUrl"), scope.get("scope"), scope.get("schemaUrl"))
        for fragment in fragments
        for entry in fragment["resourceSpans"]
        for scope in entry["scopeSpans"]
        for _ in scope["spans"]
    ]
    assert around == [
        (entry.get("resource"), entry.get("schemaUrl"), scope.get("scope"), scope.get("schemaUrl"))
        for entry in made["resourceSpans"]
        for scope in entry["scopeSpans"]
        for _ in scope["spans"]
    ]


def test_cut_keeps_a_resource_that_was_set() -> None:
    traces = decoded(builders.request(*[builders.span() for _ in range(10)]))
    pieces = traces.pieces(1000, [b'{"attributes":[]}'])

    assert len(pieces) > 1
    assert all(piece.body.startswith(b'{"resource":{"attributes":[]},') for piece in pieces)


FIXTURES = Path(__file__).parents[2] / "fixtures"
SOUND = [
    json.dumps(json.loads((FIXTURES / name).read_bytes())).encode()
    for name in ("02_full_featured.json", "03_numbers_both_forms.json", "12_nulls.json")
]
JUNK = [
    b'"',
    b"{",
    b"]",
    b",",
    b"null",
    b"\\ud800",
    b"1e999",
    b"NaN",
    b"\xef\xbb\xbf",
    b"\xff",
    b"",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound body in which a few bytes were replaced, or anything at all."""
    body = draw(st.sampled_from(SOUND))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        junk = draw(st.one_of(st.sampled_from(JUNK), st.binary(max_size=3)))
        body = body[:at] + junk + body[at + draw(st.integers(0, 6)) :]
    return body


@settings(max_examples=examples(400), deadline=None)
@given(body=st.one_of(damaged(), st.binary(max_size=60)))
def test_damaged_body_raises_nothing_but_a_refusal(body: bytes) -> None:
    try:
        traces = decode(body, ResourceCache())
    except Refusal:
        return

    json.loads(b"[%b]" % whole_unchecked(traces))


def whole_unchecked(traces: JsonRequest) -> bytes:
    """As `whole`, for ids that no check has seen: their bytes are not asked for."""
    for span in traces.records:
        span.traceId = "00"
    traces.changed()
    return whole(traces)
