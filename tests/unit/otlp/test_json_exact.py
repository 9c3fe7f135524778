"""The rules of proto3 JSON and of OTLP, each by itself, and what a refusal says."""

import json
from typing import Any

import pytest

from relay.model.errors import Refusal
from relay.otlp import messages
from relay.otlp.json_exact import MOST_BRACKETS, count_brackets, read_request, snake_case
from relay.otlp.json_values import Findings
from tests.support import builders


def read(made: Any, findings: Findings | None = None) -> Any:
    body = made if isinstance(made, bytes) else builders.to_body(made)
    return json.loads(messages.encode(read_request(body, findings or Findings())))


def read_span(**members: Any) -> Any:
    return builders.spans_of(read(builders.request(builders.span(**members))))[0]


def read_value(value: Any) -> Any:
    return builders.spans_of(read(builders.with_value(value)))[0]["attributes"][0]["value"]


def refusal_of(made: Any) -> str:
    with pytest.raises(Refusal) as refused:
        read(made)
    assert refused.value.status == 400
    assert refused.value.grpc_code == 3
    return refused.value.message


def test_unknown_keys_are_ignored_without_a_warning() -> None:
    findings = Findings()
    made = builders.request(builders.span(future={"x": [1, {"y": None}]}))
    made["zzz"] = "top"

    assert read(made, findings) == builders.request(builders.span())
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


def test_null_within_a_list_is_refused() -> None:
    assert refusal_of(builders.request(builders.span(attributes=[None]))) == (
        "resourceSpans[0].scopeSpans[0].spans[0].attributes[0] must be an object"
    )


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
def test_enum_that_is_no_integer_and_no_known_name_is_refused(kind: Any) -> None:
    assert refusal_of(builders.request(builders.span(kind=kind))).startswith(
        "resourceSpans[0].scopeSpans[0].spans[0].kind must be an integer"
    )


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
    [b"1.5", b"9223372036854775808", b'"-9223372036854775809"', b'""', b'" 1"', b'"1 "', b'"1_000"',
     '"٣"'.encode(), b"true", b"[]", b'"0x1"', b'"+1"', b"1e1000000000", b'"1e1000000000"',
     b"9" * 5000, b'"' + b"9" * 5000 + b'"', b"1e-5", b'"NaN"'],
)  # fmt: skip
def test_what_is_no_int64_is_refused_by_its_path(sent: bytes) -> None:
    body = builders.to_body(builders.with_value({"intValue": "HERE"})).replace(b'"HERE"', sent)

    assert refusal_of(body).startswith(
        "resourceSpans[0].scopeSpans[0].spans[0].attributes[0].value.intValue must be an int64"
    )


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
def test_refusal_names_the_path_and_nothing_of_the_value(member: str, bad: Any) -> None:
    message = refusal_of(builders.request(builders.span(), builders.span(**{member: bad})))

    assert message.startswith(f"resourceSpans[0].scopeSpans[0].spans[1].{member} must be ")
    assert "yesterday" not in message


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
def test_what_is_no_double_is_refused(sent: bytes) -> None:
    body = builders.to_body(builders.with_value({"doubleValue": "HERE"})).replace(b'"HERE"', sent)

    assert "doubleValue must be a number" in refusal_of(body)


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


@pytest.mark.parametrize("bad", ["A", "AA AA", "AA===", "é", "A=AA", "====", 5])
def test_what_is_no_base64_is_refused(bad: Any) -> None:
    assert "bytesValue must be " in refusal_of(builders.with_value({"bytesValue": bad}))


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
        (b'{"a":"secret\xff"}', "not UTF-8 at byte 12"),
        (b'{"a":"\x01"}', "no valid JSON at character"),
    ],
)
def test_body_that_is_no_json_object_is_refused_by_position(body: bytes, words: str) -> None:
    message = refusal_of(body)

    assert words in message
    assert "secret" not in message


def test_path_of_a_deep_value_is_cut() -> None:
    made = builders.with_value(builders.nested(100))
    body = builders.to_body(made).replace(b'"intValue":"1"', b'"intValue":"x"')

    assert len(refusal_of(body)) < 600


def test_brackets_are_counted_outside_texts_only() -> None:
    deep = b"[" * 900 + b"]" * 900
    in_text = b'{"a":"' + b"[{" * 900 + rb"\"" + b'"}'
    wide = b"[" + b"{}," * 2000 + b"{}]"

    assert count_brackets(deep) == 900 > MOST_BRACKETS
    assert count_brackets(in_text) == 1
    assert count_brackets(wide) == 2
