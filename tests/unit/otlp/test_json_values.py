"""The fast way's own normalising: what it vouches for, and what it leaves to the exact way."""

from typing import Any

import pytest

from relay.otlp.json_values import (
    Findings,
    Unusual,
    are_single,
    base64_normal,
    is_hex,
    normal_int64,
    normalise_attributes,
    normalise_times,
    normalise_values,
)
from relay.otlp.messages import AnyValue, ArrayValue, Event, KeyValue, KeyValueList, Span


@pytest.mark.parametrize(
    "text",
    ["", "-", "-0", "00", "007", "-07", "1,2", ",", " 1", "1 ", "+1", "1_0", "--1", "٣", "²", "1e3",
     "9223372036854775808", "-9223372036854775809", "9" * 5000],
)  # fmt: skip
def test_integer_text_that_is_not_canonical_is_left_to_the_exact_way(text: str) -> None:
    with pytest.raises(Unusual):
        normalise_values([AnyValue(intValue="5"), AnyValue(intValue=text)], Findings())


@pytest.mark.parametrize("text", ["0", "-1", "10", "9223372036854775807", "-9223372036854775808"])
def test_canonical_integer_text_stays(text: str) -> None:
    values = [AnyValue(intValue=text), AnyValue(intValue="0")]
    normalise_values(values, Findings())

    assert values[0].intValue == text


def members_of(span: Span, events: list[Event]) -> list[tuple[Any, str]]:
    return [
        ([span], "startTimeUnixNano"),
        ([span], "endTimeUnixNano"),
        (events, "timeUnixNano"),
    ]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_integer_beyond_64_bits_is_left_to_the_exact_way(number: int) -> None:
    with pytest.raises(Unusual):
        normalise_values([AnyValue(intValue=number)], Findings())


@pytest.mark.parametrize(
    "time", ["0" + "1" * 18, "01", "", "-1", " 1", "2" * 20, 2**64, -1, "٣" * 19,
             "1767225600 000000000"]
)  # fmt: skip
@pytest.mark.parametrize("member", ["startTimeUnixNano", "endTimeUnixNano", "event"])
def test_time_that_is_not_canonical_is_left_to_the_exact_way(member: str, time: str | int) -> None:
    span = Span(startTimeUnixNano="1767225600000000000", endTimeUnixNano="1767225600000000000")
    events = [Event(timeUnixNano=time)] if member == "event" else []
    if member != "event":
        setattr(span, member, time)

    with pytest.raises(Unusual):
        normalise_times(*members_of(span, events))


def test_times_that_are_all_beyond_64_bits_are_left_to_the_exact_way() -> None:
    span = Span(startTimeUnixNano="2" * 20, endTimeUnixNano="2" * 20)
    with pytest.raises(Unusual):
        normalise_times(*members_of(span, []))


def test_times_of_other_lengths_and_numbers_become_text() -> None:
    span = Span(startTimeUnixNano=5, endTimeUnixNano="18446744073709551615")
    normalise_times(*members_of(span, []))

    assert (span.startTimeUnixNano, span.endTimeUnixNano) == ("5", "18446744073709551615")


def test_attribute_without_a_value_is_passed_over() -> None:
    attributes = [KeyValue(key="a"), KeyValue(key="b", value=AnyValue(intValue=5))]
    normalise_attributes([attributes], Findings())

    assert attributes[1].value == AnyValue(intValue="5")


def test_base64_is_normal_only_in_its_standard_padded_form() -> None:
    assert base64_normal("_-8") == "/+8="
    for text in ("_-8", "A", "QUJD?"):
        with pytest.raises(Unusual):
            normalise_values([AnyValue(bytesValue=text)], Findings())


@pytest.mark.parametrize("text", ["A", "AAAAA", "QU?JD", "QUJD QUJD", "QUJD===", "===", "QQ==QQ=="])
def test_what_is_no_base64_has_no_normal_form(text: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        base64_normal(text)


@pytest.mark.parametrize("number", [0, 5, -5, 2**63 - 1, -(2**63)])
def test_number_of_64_bits_becomes_its_text(number: int) -> None:
    assert normal_int64(number) == normal_int64(str(number)) == str(number)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_number_beyond_64_bits_has_no_text(number: int) -> None:
    for sent in (number, str(number)):
        with pytest.raises(Unusual):
            normal_int64(sent)


def by_index(number: int) -> KeyValue:
    return KeyValue(keyStrindex=number, value=AnyValue(stringValue="v"))


def named(key: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(stringValue="v"))


@pytest.mark.parametrize(
    ("attributes", "warnings"),
    [
        ([named("a"), named("b")], {}),
        ([named("a"), named("a"), named("a")], {"attribute_key_duplicate": 1}),
        ([named(""), named("a")], {"attribute_key_empty": 1}),
        ([named(""), named("")], {"attribute_key_duplicate": 1, "attribute_key_empty": 1}),
        ([by_index(1)], {"string_index": 1}),
        ([by_index(1), by_index(2), by_index(3), named("a")], {"string_index": 1}),
        (
            [by_index(1), by_index(2), named("a"), named("a")],
            {"string_index": 1, "attribute_key_duplicate": 1},
        ),
    ],
)
def test_keys_that_break_a_rule_are_counted_once_a_list(
    attributes: list[KeyValue], warnings: dict[str, int]
) -> None:
    findings = Findings()
    normalise_attributes([attributes, [named("a")]], findings)

    assert findings.warnings == warnings


def test_string_indices_within_values_are_counted() -> None:
    entries = [by_index(1), by_index(2), named("a")]
    values = [
        AnyValue(kvlistValue=KeyValueList(entries)),
        AnyValue(kvlistValue=KeyValueList([named("a")])),
        AnyValue(stringValueStrindex=1),
        AnyValue(stringValueStrindex=2),
    ]
    findings = Findings()
    normalise_values(values, findings)

    assert findings.warnings == {"string_index": 3}


def test_all_warnings_are_counted_and_the_first_three_places_told() -> None:
    findings = Findings()
    for place in ("a", "b", "a", "c", "d", "a"):
        findings.warn_at("unknown_key", place)
    findings.place("snake_case", "e")

    assert findings.warnings == {"unknown_key": 6}
    assert findings.places == {"unknown_key": ["a", "b", "c"], "snake_case": ["e"]}


@pytest.mark.parametrize(
    ("text", "is_so"),
    [("", True), ("00ff", True), ("00FF", False), ("0", False), ("0g", False), ("00 ff", False)],
)
def test_hex_is_pairs_of_lower_case_digits_alone(text: str, *, is_so: bool) -> None:
    assert is_hex(text) is is_so


MEMBERS: dict[str, Any] = {
    "intValue": "1",
    "doubleValue": 1.5,
    "boolValue": False,
    "bytesValue": "AA==",
    "stringValueStrindex": 1,
    "arrayValue": ArrayValue([]),
    "kvlistValue": KeyValueList([]),
}


@pytest.mark.parametrize(
    ("values", "is_so"),
    [
        ([{}], True),
        ([{"stringValue": ""}, {"intValue": "1"}, {"boolValue": False}], True),
        *(([{"stringValue": "a"}, {"stringValue": "a", each: MEMBERS[each]}], False)
          for each in MEMBERS),
        ([{"stringValue": "a"}, {"arrayValue": ArrayValue([])}], False),
        ([{"stringValue": "a"}, {"kvlistValue": KeyValueList([])}], False),
    ],
)  # fmt: skip
def test_values_are_single_that_have_one_member_and_hold_no_others(
    values: list[dict[str, Any]], *, is_so: bool
) -> None:
    made = [KeyValue(key="k", value=AnyValue(**each)) for each in values]

    assert are_single([[], [KeyValue(key="none"), *made]]) is is_so
    assert are_single([made, [KeyValue(key="none")]]) is is_so


@pytest.mark.parametrize("first", MEMBERS)
@pytest.mark.parametrize("second", MEMBERS)
def test_value_of_two_members_is_left_to_the_exact_way(first: str, second: str) -> None:
    members = {each: MEMBERS[each] for each in (first, second)}
    if len(members) == 1:
        normalise_values([AnyValue(**members)], Findings())
        return
    with pytest.raises(Unusual):
        normalise_values([AnyValue(**members)], Findings())
