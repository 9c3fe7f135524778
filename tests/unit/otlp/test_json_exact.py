"""The rules of proto3 JSON and of OTLP, each by itself, and what a refusal says."""

import json
from contextlib import nullcontext
from typing import Any

import pytest

from relay.model.errors import Refusal
from relay.otlp import messages
from relay.otlp.json_exact import read_request, read_resource, snake_case
from relay.otlp.json_scalars import MOST_PATH_CHARACTERS, render
from relay.otlp.json_tree import MOST_BRACKETS, count_brackets, parse, write
from relay.otlp.json_values import MOST_LEVELS, Findings
from tests.support import builders


def read(made: Any, findings: Findings | None = None) -> Any:
    body = made if isinstance(made, bytes) else builders.to_body(made)
    return json.loads(messages.encode(read_request(body, findings or Findings())))


def read_span(**members: Any) -> Any:
    return builders.spans_of(read(builders.request(builders.span(**members))))[0]


def read_value(value: Any) -> Any:
    return builders.spans_of(read(builders.with_value(value)))[0]["attributes"][0]["value"]


def findings_of(made: Any) -> Findings:
    findings = Findings()
    read(made, findings)
    return findings


def rejected_of(made: Any) -> str:
    """Where the only span that cannot be read is wrong."""
    (unreadable,) = findings_of(made).unreadable
    return unreadable.path


def emptied(value: Any) -> str:
    """Where a value cannot be read, which is empty then."""
    findings = Findings()
    body = value if isinstance(value, bytes) else builders.to_body(builders.with_value(value))
    (span,) = builders.spans_of(read(body, findings))

    assert span["attributes"] == [{"key": "k", "value": {}}]
    assert findings.warnings == {"value_unreadable": 1}
    assert not findings.unreadable
    (place,) = findings.places["value_unreadable"]
    return place


def refusal_of(made: Any) -> str:
    with pytest.raises(Refusal) as refused:
        read(made)
    assert refused.value.status == 400
    assert refused.value.grpc_code == 3
    return refused.value.message


def test_unknown_keys_are_ignored_and_each_is_named_once() -> None:
    findings = Findings()
    spans = [builders.span(future={"x": [1, {"y": None}]}) for _ in range(5)]
    made = builders.request(*spans)
    made["zzz"] = "top"

    assert read(made, findings) == builders.request(*[builders.span()] * 5)
    assert findings.warnings == {"unknown_key": 6}
    assert findings.places == {
        "unknown_key": ["zzz", "resourceSpans[0].scopeSpans[0].spans[0].future"]
    }


def test_unknown_key_is_named_short_and_in_one_line() -> None:
    (place,) = findings_of({"a\nb\u202e" + "c" * 900: 1}).places["unknown_key"]

    assert place.startswith("a bccc")
    assert len(place) == 40


def test_values_wrapped_once_too_often_are_told() -> None:
    findings = Findings()
    made = builders.with_value({"value": {"intValue": "1"}})

    (span,) = builders.spans_of(read(made, findings))
    assert span["attributes"] == [{"key": "k", "value": {}}]
    assert findings.places["unknown_key"] == [
        "resourceSpans[0].scopeSpans[0].spans[0].attributes[0].value.value"
    ]


def test_list_that_is_given_twice_is_appended() -> None:
    body = (
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","events":[{"name":"x"}],'
        b'"events":[{"name":"y"}],"events":[{"name":"z"}]}]}]}],"resourceSpans":[{"scopeSpans":'
        b'[{"spans":[{"name":"b"}],"spans":[],"spans":[{"name":"c"}]}]}]}'
    )
    spans = builders.spans_of(read(body))

    assert [span["name"] for span in spans] == ["a", "b", "c"]
    assert spans[0]["events"] == [{"name": "x"}, {"name": "y"}, {"name": "z"}]


@pytest.mark.parametrize("between", [b"", b'"events":null,', b'"events":5,'])
def test_span_with_a_list_twice_that_is_rejected_is_kept_as_it_was_sent(between: bytes) -> None:
    lists = [b'"events":[{"name":"%b"}]' % name for name in (b"u", b"v", b"w", b"x", b"y", b"z")]
    span = b'{"kind":{},%b,%b%b}' % (b",".join(lists[:3]), between, b",".join(lists[3:]))
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b]}]}]}' % span
    (unreadable,) = findings_of(body).unreadable

    assert write(unreadable.tree) == span


def test_list_after_null_is_that_list() -> None:
    body = b'{"resourceSpans":[{"schemaUrl":"u"}],"resourceSpans":null,"resourceSpans":[{}]}'

    assert read(body) == {"resourceSpans": [{}]}


def test_former_names_of_scopes_are_read_as_what_they_are() -> None:
    findings = Findings()
    old = {
        "instrumentationLibrary": {"name": "lib"},
        "spans": [builders.span()],
    }
    made = builders.request()
    made["resourceSpans"][0] = {"instrumentationLibrarySpans": [old], "scopeSpans": [{}]}
    (entry,) = read(made, findings)["resourceSpans"]

    assert entry["scopeSpans"] == [{"scope": {"name": "lib"}, "spans": [builders.span()]}, {}]
    assert findings == Findings()


@pytest.mark.parametrize(
    "member",
    ["name", "kind", "flags", "attributes", "events", "links", "status", "startTimeUnixNano"],
)
def test_null_is_the_default_of_any_member(member: str) -> None:
    body = builders.to_body(builders.request(builders.span(**{member: "X"}))).replace(
        f'"{member}":"X"'.encode(), f'"{member}":null'.encode()
    )

    assert member not in builders.spans_of(read(body))[0]


def test_null_after_a_value_takes_it_away() -> None:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","name":null}]}]}]}'

    assert builders.spans_of(read(body)) == [{}]


@pytest.mark.parametrize("bad", [None, 5, {"key": 5}])
def test_attribute_that_is_none_is_left_out_and_told(bad: Any) -> None:
    findings = Findings()
    good = builders.text_attribute("k", "v")
    made = builders.request(builders.span(attributes=[bad, good]))

    assert builders.spans_of(read(made, findings))[0]["attributes"] == [good]
    assert findings.warnings == {"attribute_unreadable": 1}
    (place,) = findings.places["attribute_unreadable"]
    assert place.startswith("resourceSpans[0].scopeSpans[0].spans[0].attributes[0]")


def test_null_within_a_list_of_values_is_an_empty_one() -> None:
    assert read_value({"arrayValue": {"values": [None, {"boolValue": True}]}}) == {
        "arrayValue": {"values": [{}, {"boolValue": True}]}
    }


@pytest.mark.parametrize(
    ("name", "number"),
    [("SPAN_KIND_UNSPECIFIED", 0), ("SPAN_KIND_SERVER", 2), ("SPAN_KIND_CONSUMER", 5)],
)
def test_enum_name_becomes_its_number_with_a_warning(name: str, number: int) -> None:
    findings = Findings()
    made = read(
        builders.request(builders.span(kind=name, status={"code": "STATUS_CODE_ERROR"})), findings
    )
    span = builders.spans_of(made)[0]

    assert span.get("kind", 0) == number
    assert span["status"] == {"code": 2}
    assert findings.warnings == {"enum_name": 2}


def test_enum_numbers_that_nobody_knows_are_kept() -> None:
    assert read_span(kind=99)["kind"] == 99
    assert read_span(kind=-1)["kind"] == -1


@pytest.mark.parametrize(
    "kind", ["SERVER", "span_kind_server", "STATUS_CODE_OK", "", 2.5, 2**31, True]
)
def test_enum_that_is_no_integer_and_no_known_name_costs_its_span(kind: Any) -> None:
    made = builders.request(builders.span(kind=kind))

    assert rejected_of(made) == "resourceSpans[0].scopeSpans[0].spans[0].kind"


def test_snake_case_keys_are_ignored_and_counted() -> None:
    findings = Findings()
    made = builders.request(builders.span(start_time_unix_nano="5", trace_state="x"))
    made["resourceSpans"][0]["scopeSpans"][0]["schema_url"] = "u"

    assert read(made, findings) == builders.request(builders.span())
    assert findings.warnings == {"snake_case": 3}


@pytest.mark.parametrize("member", ["string_value", "int_value", "kvlist_value"])
def test_snake_case_member_of_a_value_leaves_it_empty(member: str) -> None:
    assert read_value({member: "1"}) == {}


def test_snake_case_spells_every_name_as_proto_files_do() -> None:
    assert snake_case("startTimeUnixNano") == "start_time_unix_nano"
    assert snake_case("name") == "name"


@pytest.mark.parametrize(
    ("key", "code"), [("resourceLogs", "logs_body"), ("resource_metrics", "metrics_body")]
)
def test_body_of_another_signal_is_noticed(key: str, code: str) -> None:
    findings = Findings()

    assert read({key: [{}]}, findings) == {}
    assert findings.warnings == {code: 1}


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [(b"1e3", "1000"), (b"2.0", "2"), (b'"1E+2"', "100"), (b'"007"', "7"), (b"-0", "0"),
     (b"-9223372036854775808", "-9223372036854775808"),
     (b'"9223372036854775807"', "9223372036854775807"),
     (b"9007199254740993.0", "9007199254740993")],
)  # fmt: skip
def test_whole_numbers_are_read_exactly_however_written(sent: bytes, read_as: str) -> None:
    body = builders.to_body(builders.with_value({"intValue": "HERE"})).replace(b'"HERE"', sent)

    assert builders.spans_of(read(body))[0]["attributes"][0]["value"] == {"intValue": read_as}


@pytest.mark.parametrize(
    "sent",
    [b'""', b'" 1"', b'"1 "', b'"1_000"', '"٣"'.encode(), b"true", b"[]", b'"0x1"', b'"+1"',
     b"1e1000000000", b'"1e1000000000"', b"9" * 5000, b'"' + b"9" * 5000 + b'"', b'"NaN"'],
)  # fmt: skip
def test_what_is_no_number_leaves_an_empty_value_and_is_told_by_its_path(sent: bytes) -> None:
    body = builders.to_body(builders.with_value({"intValue": "HERE"})).replace(b'"HERE"', sent)

    assert emptied(body) == ("resourceSpans[0].scopeSpans[0].spans[0].attributes[0].value.intValue")


@pytest.mark.parametrize(
    ("sent", "double", "is_told"),
    [
        (b"9223372036854775808", 2.0**63, False),
        (b"1e20", 1e20, False),
        (b'"-9223372036854775809"', -(2.0**63), True),
        (b"1.5", 1.5, True),
        (b"1e-5", 1e-5, True),
    ],
)
def test_integer_that_is_none_in_64_bits_is_a_double(
    sent: bytes, double: float, is_told: bool
) -> None:
    findings = Findings()
    body = builders.to_body(builders.with_value({"intValue": "HERE"})).replace(b'"HERE"', sent)

    (span,) = builders.spans_of(read(body, findings))
    assert span["attributes"][0]["value"] == {"doubleValue": double}
    assert findings.warnings == ({"int_as_double": 1} if is_told else {})


@pytest.mark.parametrize(
    ("member", "bad"),
    [
        ("flags", 2**32),
        ("flags", -1),
        ("droppedLinksCount", ""),
        ("startTimeUnixNano", 2**64),
        ("endTimeUnixNano", -1),
        ("endTimeUnixNano", "yesterday"),
        ("traceId", 5),
        ("name", {}),
        ("attributes", {"a": 1}),
        ("status", []),
    ],
)
def test_flaw_of_a_span_costs_that_span_and_names_the_path(member: str, bad: Any) -> None:
    findings = Findings()
    others = [builders.span(name="before"), builders.span(name="after")]
    flawed = builders.span(**{member: bad})
    made = builders.request(others[0], flawed, others[1])

    assert builders.spans_of(read(made, findings)) == others
    (unreadable,) = findings.unreadable
    assert unreadable.place == (0, 0, 1)
    assert unreadable.path == f"resourceSpans[0].scopeSpans[0].spans[1].{member}"
    assert json.loads(write(unreadable.tree)) == flawed
    assert not findings.warnings


@pytest.mark.parametrize("bad", [None, 5, "x", [], True])
def test_element_of_spans_that_is_no_object_costs_itself_alone(bad: Any) -> None:
    findings = Findings()
    made = builders.request(bad, builders.span())

    assert builders.spans_of(read(made, findings)) == [builders.span()]
    assert [each.path for each in findings.unreadable] == [
        "resourceSpans[0].scopeSpans[0].spans[0]"
    ]


@pytest.mark.parametrize(
    ("entry", "place", "path"),
    [
        (5, (0,), "resourceSpans[0]"),
        ({"scopeSpans": {}}, (0,), "resourceSpans[0].scopeSpans"),
        ({"scopeSpans": [5]}, (0, 0), "resourceSpans[0].scopeSpans[0]"),
        ({"scopeSpans": [{"spans": "x"}]}, (0, 0), "resourceSpans[0].scopeSpans[0].spans"),
    ],
)
def test_envelope_that_holds_no_readable_list_costs_itself_alone(
    entry: Any, place: tuple[int, ...], path: str
) -> None:
    findings = Findings()
    made = builders.request(builders.span())
    made["resourceSpans"].insert(0, entry)

    found = read(made, findings)
    assert builders.spans_of(found) == [builders.span()]
    assert [(each.place, each.path) for each in findings.unreadable] == [(place, path)]
    # What is behind it keeps its index, so that places are told as they were sent.
    assert found["resourceSpans"][1:] == made["resourceSpans"][1:]


def test_scope_behind_one_that_cannot_be_read_keeps_its_index() -> None:
    made = builders.request(builders.span())
    made["resourceSpans"][0]["scopeSpans"][:0] = [5, {"spans": "x"}]
    (entry,) = read(made)["resourceSpans"]

    assert entry["scopeSpans"] == [{}, {}, made["resourceSpans"][0]["scopeSpans"][2]]


def test_first_ten_keys_at_the_top_of_a_body_are_told() -> None:
    keys = tuple(f"key{number}" for number in range(11))

    assert findings_of(dict.fromkeys(keys, 1)).top_keys == keys[:10]


@pytest.mark.parametrize("where", ["span", "resource"])
def test_depth_is_counted_anew_for_each_value(where: str) -> None:
    """A value as deep as may be, behind another one."""
    deep = [{"key": "k", "value": builders.nested(MOST_LEVELS)}] * 2
    made = builders.request(builders.span(attributes=deep, unknown=1))
    if where == "resource":
        made["resourceSpans"][0]["resource"]["attributes"] = deep
    read(made)

    deep[1]["value"] = builders.nested(MOST_LEVELS + 1)
    assert f"at most {MOST_LEVELS} levels" in refusal_of(made)


@pytest.mark.parametrize(
    ("member", "bad"),
    [("resource", "x"), ("resource", {"attributes": {"a": 1}}), ("schemaUrl", 5),
     ("resource", {"droppedAttributesCount": -1}), ("resource", {"entityRefs": [5]})],
)  # fmt: skip
def test_what_cannot_be_read_around_items_costs_none_of_them(member: str, bad: Any) -> None:
    findings = Findings()
    made = builders.request(builders.span())
    made["resourceSpans"][0][member] = bad

    assert builders.spans_of(read(made, findings)) == [builders.span()]
    assert findings.warnings == {"envelope_unreadable": 1}
    (place,) = findings.places["envelope_unreadable"]
    assert place.startswith(f"resourceSpans[0].{member}")


@pytest.mark.parametrize(
    ("part", "kept", "code", "where"),
    [
        ({"events": [{"name": "e", "timeUnixNano": "2026-01-01T00:00:00Z"}]},
         {"events": [{"name": "e"}]}, "value_unreadable", "events[0].timeUnixNano"),
        ({"events": [5, {"name": "e"}]},
         {"events": [{"name": "e"}]}, "event_unreadable", "events[0]"),
        ({"links": [{"traceState": "t", "flags": "?"}]},
         {"links": [{"traceState": "t"}]}, "value_unreadable", "links[0].flags"),
        ({"links": ["x", {"traceState": "t"}]},
         {"links": [{"traceState": "t"}]}, "link_unreadable", "links[0]"),
    ],
)  # fmt: skip
def test_part_of_an_event_or_link_that_cannot_be_read_does_not_cost_its_span(
    part: builders.Json, kept: builders.Json, code: str, where: str
) -> None:
    findings = Findings()
    found = read(builders.request(builders.span(**part)), findings)

    assert builders.spans_of(found) == [builders.span(**kept)]
    assert findings.places == {code: [f"resourceSpans[0].scopeSpans[0].spans[0].{where}"]}
    assert findings.unreadable == []


def test_scope_that_cannot_be_read_is_absent() -> None:
    made = builders.request(builders.span())
    made["resourceSpans"][0]["scopeSpans"][0]["scope"] = {"name": ["x"], "version": "1"}

    assert read(made)["resourceSpans"][0]["scopeSpans"][0]["scope"] == {"version": "1"}


def test_list_of_a_request_that_is_none_is_refused() -> None:
    assert refusal_of({"resourceSpans": {}}) == "resourceSpans must be a list"


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [(b"2", 2.0), (b'"1.5e-3"', 0.0015), (b'"-Infinity"', "-Infinity"), (b"1e-400", 0.0)],
)
def test_double_is_read_as_number_or_special_name(sent: bytes, read_as: Any) -> None:
    body = builders.to_body(builders.with_value({"doubleValue": "HERE"})).replace(b'"HERE"', sent)

    assert builders.spans_of(read(body))[0]["attributes"][0]["value"] == {"doubleValue": read_as}


@pytest.mark.parametrize(
    "sent",
    [b"1e999", b"-1e999", b'"1e999"', b'""', b'"inf"', b'"nan"', b'"infinity"', b'"1_0"',
     b'" 1"', b"true", b"9" * 400],
)  # fmt: skip
def test_what_is_no_double_is_told(sent: bytes) -> None:
    body = builders.to_body(builders.with_value({"doubleValue": "HERE"})).replace(b'"HERE"', sent)

    assert emptied(body).endswith("doubleValue")


@pytest.mark.parametrize("bare", [b"NaN", b"Infinity", b"-Infinity"])
def test_bare_special_double_is_no_json(bare: bytes) -> None:
    body = builders.to_body(builders.with_value({"doubleValue": "HERE"})).replace(b'"HERE"', bare)

    assert "no JSON" in refusal_of(body)


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [("AAEC/w==", "AAEC/w=="), ("AAEC_w", "AAEC/w=="), ("-_8=", "+/8="), ("", "")],
)
def test_bytes_become_standard_padded_base64(sent: str, read_as: str) -> None:
    assert read_value({"bytesValue": sent}) == {"bytesValue": read_as}


def test_bytes_may_be_a_list_of_integers() -> None:
    assert read_value({"bytesValue": [0, 255, "7"]}) == {"bytesValue": "AP8H"}
    assert read_value({"bytesValue": []}) == {"bytesValue": ""}


@pytest.mark.parametrize(
    "bad", ["A", "AA AA", "AA===", "é", "A=AA", "====", 5, 1234, [256], [-1], [1.5], [None], [[1]]]
)
def test_what_is_no_base64_is_told(bad: Any) -> None:
    assert emptied({"bytesValue": bad}).endswith("bytesValue")


@pytest.mark.parametrize(
    ("bad", "member"),
    [
        ("text", ""),
        (5, ""),
        ([], ""),
        ({"stringValue": 5}, ".stringValue"),
        ({"boolValue": "true"}, ".boolValue"),
        ({"doubleValue": {}}, ".doubleValue"),
        ({"arrayValue": []}, ".arrayValue"),
        ({"arrayValue": {"values": {}}}, ".arrayValue.values"),
        ({"kvlistValue": {"values": 5}}, ".kvlistValue.values"),
    ],
)
def test_value_that_cannot_be_read_is_empty_and_told(bad: Any, member: str) -> None:
    value = "resourceSpans[0].scopeSpans[0].spans[0].attributes[0].value"

    assert emptied(bad) == value + member


def test_value_within_a_value_is_empty_alone() -> None:
    findings = Findings()
    held = [{"stringValue": "a"}, {"intValue": "x"}, {"boolValue": True}]
    made = builders.with_value({"arrayValue": {"values": held}})

    (span,) = builders.spans_of(read(made, findings))
    assert span["attributes"][0]["value"] == {
        "arrayValue": {"values": [{"stringValue": "a"}, {}, {"boolValue": True}]}
    }
    assert findings.places["value_unreadable"][0].endswith("arrayValue.values[1].intValue")


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [(rb'"cut \ud83d"', "cut \ufffd"), (rb'"\ude00 x"', "\ufffd x"), (rb'"\ud83d\ude00"', "😀")],
)
def test_half_a_surrogate_pair_is_repaired(sent: bytes, read_as: str) -> None:
    body = builders.to_body(builders.with_value({"stringValue": "HERE"})).replace(b'"HERE"', sent)

    assert builders.spans_of(read(body))[0]["attributes"][0]["value"] == {"stringValue": read_as}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b"   ", "ends before"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"5", "must be a JSON object"),
        (b"{", "ends before"),
        (b'{"resourceSpans":[{"sco', "ends before"),
        (b"{} {}", "no valid JSON at character 3"),
        (b'{"a":1,}', "no valid JSON at character"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-16"),
        ("{}".encode("utf-16-le"), "UTF-16"),
        ("{}".encode("utf-16-be"), "UTF-16"),
        (b'{"a":\xff}', "no valid JSON at character 5"),
        (b'{"a":"\x01"}', "no valid JSON at character"),
    ],
)
def test_body_that_is_no_json_object_is_refused_by_position(body: bytes, words: str) -> None:
    message = refusal_of(body)

    assert words in message
    assert "secret" not in message


def test_text_that_is_not_utf_8_is_repaired_and_told() -> None:
    findings = Findings()
    body = builders.to_body(builders.request(builders.span(name="HERE")))
    (span,) = builders.spans_of(read(body.replace(b"HERE", b"cut \xf0\x9f"), findings))

    assert span["name"] == "cut \ufffd"
    assert findings.warnings == {"utf8_broken": 1}


def test_path_of_a_deep_value_is_cut() -> None:
    made = builders.with_value(builders.nested(100))
    body = builders.to_body(made).replace(b'"intValue":"1"', b'"intValue":"x"')
    (place,) = findings_of(body).places["value_unreadable"]

    assert len(place) < 600


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"5",
        b'"x"',
        b"null",
        b"true",
        b'{"a":[1,{"b":[]},[[]]],"a":1.50,"c":"\\u00e9\\""}',
    ],
)
def test_tree_is_written_as_it_was_sent(text: bytes) -> None:
    assert write(parse(text, "it", Findings())) == text


def test_depth_costs_no_stack_when_a_tree_is_written() -> None:
    text = b"[" * 800 + b"]" * 800

    assert write(parse(text, "it", Findings())) == text


def test_brackets_are_counted_outside_texts_only() -> None:
    deep = b"[" * 900 + b"]" * 900
    in_text = b'{"a":"' + b"[{" * 900 + rb"\"" + b'"}'
    wide = b"[" + b"{}," * 2000 + b"{}]"

    assert count_brackets(deep) == 900 > MOST_BRACKETS
    assert count_brackets(in_text) == 1
    assert count_brackets(wide) == 2


def test_resource_that_is_read_alone_keeps_its_lists_and_maps() -> None:
    inner = {"key": "deep", "value": {"arrayValue": {"values": [{"stringValue": "kept"}]}}}
    value = {"kvlistValue": {"values": [inner]}}
    body = builders.to_body({"attributes": [{"key": "k", "value": value}]})
    resource = read_resource(body, Findings())

    assert json.loads(messages.encode(resource))["attributes"] == [{"key": "k", "value": value}]


@pytest.mark.parametrize("kind", [b"[]", b"{}"])
def test_body_is_nested_as_deep_as_its_values_may_be_and_no_deeper(kind: bytes) -> None:
    opening, closing = kind[:1] + (b'"k":' if kind == b"{}" else b""), kind[1:]

    def nested(levels: int) -> bytes:
        return opening * (levels - 1) + kind + closing * (levels - 1)

    assert write(parse(nested(MOST_BRACKETS), "the body", Findings())) == nested(MOST_BRACKETS)
    with pytest.raises(Refusal, match=f"nested too deeply: at most {MOST_LEVELS} levels"):
        parse(nested(MOST_BRACKETS + 1), "the body", Findings())


def test_zero_byte_is_one_of_utf16_only_at_the_beginning() -> None:
    assert "UTF-16" in refusal_of(b"{\0}\0")
    assert "UTF-16" in refusal_of(b"\0{\0}")
    assert refusal_of(b"{}\0") == "the body is no valid JSON at character 2"


@pytest.mark.parametrize("more", [0, 1])
def test_path_is_told_whole_where_it_is_short_enough(more: int) -> None:
    name = "n" * (MOST_PATH_CHARACTERS + more)

    assert render((None, name)) == (name if not more else name[:-1] + "…")


@pytest.mark.parametrize("levels", [200, 201])
def test_values_are_as_deep_in_a_resource_and_where_there_is_none(levels: int) -> None:
    attributes = [{"key": "k", "value": builders.nested(levels, "arrayValue")}]
    span = builders.span(attributes=attributes)
    resource = builders.to_body({"attributes": attributes})
    body = builders.to_body({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    for read in (
        lambda: read_request(body, Findings()),
        lambda: read_resource(resource, Findings()),
    ):
        with nullcontext() if levels == 200 else pytest.raises(Refusal, match="at most 200"):
            read()
