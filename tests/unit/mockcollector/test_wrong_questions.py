"""What could only fail later, or never match, is an error where it is written."""

import enum
import gzip
import re
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from mockcollector import Answer, MockCollector
from mockcollector.ledger import Limits
from mockcollector.matching import ABSENT
from mockcollector.script_values import ScriptError
from mockcollector.signals import Signal
from tests.unit.mockcollector.exchange import (
    JSON,
    InThread,
    logs_json,
    metrics_json,
    point_json,
    record_json,
    request_json,
    send,
    span_json,
    sum_json,
)


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"script": ["503", 3]}, ScriptError, "an answer is a text or an Answer, not a int"),
        ({"script": ["nonsense"]}, ScriptError, "an answer is one of"),
        ({"path": "v1/traces"}, ValueError, "it starts with a slash"),
        ({"limits": {"max_spans": 1}}, TypeError, "limits is a Limits("),
        ({"required_headers": ["x-key"]}, TypeError, "maps names to values"),
        ({"required_headers": {"Authorization: Bearer s3cret": None}}, ValueError, "not the name"),
        ({"required_headers": {"x-key": 3}}, TypeError, "x-key is not a text"),
        ({"max_body_bytes": 0}, ValueError, "it is 1 or more"),
    ],
)
def test_option_that_cannot_work_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        MockCollector(**options)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_script_may_mix_texts_and_answers() -> None:
    collector = MockCollector(script=["503*2", Answer(status=429), "ok"])
    assert [str(step) for step in collector.script.left] == ["503", "429", "200"]


def test_limits_are_whole_numbers_from_1_on() -> None:
    with pytest.raises(ValueError, match="max_spans is 0"):
        Limits(max_spans=0)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"kind": SpanKind.SERVER}, 1),
        ({"kind": "server"}, 1),
        ({"kind": "SPAN_KIND_SERVER"}, 1),
        ({"kind": 2}, 1),
        ({"kind": SpanKind.CLIENT}, 0),
        ({"status_code": StatusCode.ERROR}, 1),
        ({"status_code": "error"}, 1),
        ({"status_code": StatusCode.OK}, 0),
    ],
)
def test_an_sdks_enums_and_names_mean_what_otlp_means(
    collector: MockCollector, wanted: dict[str, Any], count: int
) -> None:
    send(collector, request_json(span_json(kind=2, status={"code": 2}), span_json(2)))
    assert len(collector.journal.spans(**wanted)) == count


def test_severities_and_temporalities_have_names(collector: MockCollector) -> None:
    send(collector, logs_json(record_json(severityNumber=18)), path="/v1/logs")
    send(collector, metrics_json(sum_json(point_json())), path="/v1/metrics")
    assert len(collector.journal.log_records(severity_number="error2")) == 1
    assert len(collector.journal.data_points(temporality="cumulative")) == 1


@pytest.mark.parametrize(
    ("signal", "wanted", "words"),
    [
        ("traces", {"kind": "srever"}, "kind is a number or one of unspecified, internal, server"),
        ("traces", {"attributes": {"a": Colour.RED}}, "nothing in OTLP can equal the Colour"),
        ("traces", {"name": {1}}, "nothing in OTLP can equal the set wanted of name"),
        ("traces", {"attributes": ["a"]}, "attributes is a mapping"),
        ("traces", {"attributes": {"a": [object()]}}, "nothing in OTLP can equal the object"),
        ("traces", {"attributes": {"a": {1: "x"}}}, "a key that is not a text"),
        ("traces", {"name": ABSENT}, "is always there"),
        ("metrics", {"temporality": "sideways"}, "temporality is a number or one of"),
    ],
)
def test_what_can_never_match_is_an_error(
    collector: MockCollector, signal: str, wanted: dict[str, Any], words: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        collector.journal.items(Signal(signal), wanted)
    assert words in str(caught.value)


def test_requests_are_found_by_patterns_of_headers(collector: MockCollector) -> None:
    send(collector, request_json(), headers=JSON | {"X-Key": "abc"})
    send(collector, request_json(span_json(2)))
    find = collector.journal.requests
    assert [r.number for r in find(header={"x-key": re.compile("^a")})] == [1]
    assert [r.number for r in find(header={"x-key": ABSENT})] == [2]
    with pytest.raises(TypeError, match="nothing in OTLP can equal the set"):
        find(header={"x-key": {"abc"}})
    with pytest.raises(TypeError, match="status is a number"):
        find(status="200")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="xml"):
        find(encoding="xml")


@pytest.mark.parametrize("media_type", ["application/json; foo=bar", "application/json;a=b;c"])
def test_parameters_that_mean_nothing_are_let_pass(
    collector: MockCollector, media_type: str
) -> None:
    assert send(collector, b"{}", headers={"Content-Type": media_type}).status == 200


def test_x_gzip_is_gzip_but_not_to_a_collector() -> None:
    headers = JSON | {"Content-Encoding": "x-gzip"}
    with MockCollector() as collector:
        assert send(collector, gzip.compress(b"{}"), headers=headers).status == 200
    with MockCollector(profile="otel-collector") as collector:
        assert send(collector, gzip.compress(b"{}"), headers=headers).status == 400


def test_open_wait_looks_at_new_spans_only(collector: MockCollector) -> None:
    looked: list[str] = []

    def name(value: str) -> bool:
        looked.append(value)
        return value == "span 999"

    for number in range(1, 6):
        send(collector, request_json(span_json(number)))
    waiting = InThread(lambda: collector.journal.wait_for_span(name=name))
    while len(looked) < 5 or not collector.journal._watched._waiters:
        collector.journal.wait_for_requests(1)
    for number in (6, 7, 999):
        send(collector, request_json(span_json(number)))
    assert waiting.result().name == "span 999"
    assert looked == [f"span {n}" for n in (1, 2, 3, 4, 5, 6, 7, 999)]


def test_failing_function_of_a_test_fails_the_wait_and_not_the_collector(
    collector: MockCollector,
) -> None:
    waiting = InThread(lambda: collector.journal.wait_for_span(name=lambda _: 1 / 0))
    while not collector.journal._watched._waiters:
        collector.journal.wait_for_requests(0)
    assert send(collector, request_json()).status == 200
    with pytest.raises(ZeroDivisionError):
        waiting.result()


def test_assert_clean_names_every_broken_rule(collector: MockCollector) -> None:
    collector.script.add("503")
    send(collector, request_json())
    collector.journal.assert_clean()
    send(collector, b"{", headers=JSON)
    send(collector, request_json(span_json(), extra=1))
    with pytest.raises(AssertionError) as caught:
        collector.journal.assert_clean()
    assert "2 rules were broken" in str(caught.value)
    assert "request 2 was refused: the body is not JSON" in str(caught.value)
    assert "request 3 has unknown keys: ('extra',)" in str(caught.value)
