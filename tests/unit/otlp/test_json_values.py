"""The fast way's own normalising: what it vouches for, and what it leaves to the exact way."""

from typing import Any

import pytest

from relay.otlp.json_values import (
    Findings,
    Unusual,
    base64_normal,
    normalise_attributes,
    normalise_times,
    normalise_values,
)
from relay.otlp.messages import AnyValue, Event, KeyValue, Span


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
    with pytest.raises(Unusual):
        normalise_values([AnyValue(bytesValue="_-8")], Findings())
