"""What the native pass takes of JSON is what the Python path makes of it."""

import json
import os
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from relay.model.reasons import ROW_BYTES
from relay.model.records import Encoding, Signal
from relay.otlp.protobuf_writer import write_entries
from relay.otlp.signals import WIRE
from relay.otlp.transcode import decode_entries
from relay.process import prepare as prepare_module
from relay.process.prepare import Prepare, Prepared
from tests.bench.payloads import KINDS, Bodies
from tests.support.fixtures import Fixture, fixtures_of
from tests.support.json_fuzz import JsonBodies
from tests.support.native_difference import NOW_NS, SENDERS, SETTINGS, BothPaths

MODULE: Final = pytest.importorskip("otlp_relay_native", reason="not built: make native")
# More of them: NATIVE_FUZZ=100000.
BODIES: Final = int(os.environ.get("NATIVE_FUZZ", "600"))
BLOCK: Final = 100
# Fixtures of which nothing is kept, or that are no JSON in UTF-8, or another signal's.
LEFT: Final = {
    *("06_empty_object", "07_empty_envelopes", "16_snake_case", "19_all_spans_invalid"),
    *("21_wrong_types", "23_wrong_top_level", "24_truncated_json", "27_invalid_utf8"),
    *("31_depth_bomb", "48_spans_at_logs", "55_metric_all_rejected"),
}
GOOD: Final[dict[str, Any]] = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "op",
    "startTimeUnixNano": str(NOW_NS),
    "endTimeUnixNano": str(NOW_NS + 5),
}


@pytest.fixture
def both() -> BothPaths:
    return BothPaths(MODULE)


def compare_transcoded(fragment: bytes, signal: Signal) -> bool:
    """Whether the native pass wrote a fragment in protobuf: then as the Python path does."""
    made = MODULE.to_protobuf(fragment, signal)
    if made is None:
        return False
    assert made == write_entries(decode_entries(fragment, signal), WIRE[signal])
    return True


def prepared(body: bytes, signal: Signal = Signal.TRACES) -> Prepared:
    """By the Python path."""
    pure = Prepare(SETTINGS, clock_ns=lambda: NOW_NS, native_pass=None)
    return pure(body, Encoding.JSON, SENDERS[True], signal=signal)


def traces(*spans: dict[str, Any], **entry: Any) -> bytes:
    scope = {"scope": {"name": "lib"}, "spans": list(spans), "schemaUrl": "https://s"}
    return json.dumps({"resourceSpans": [{"scopeSpans": [scope], **entry}]}).encode()


def metrics(*data: dict[str, Any]) -> bytes:
    named = [{"name": f"m{number}", **each} for number, each in enumerate(data)]
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": named}]}]}).encode()


@pytest.mark.parametrize(
    ("signal", "fixture"),
    [(signal, each) for signal in Signal for each in fixtures_of(signal.word)],
    ids=str,
)
def test_fixtures_come_out_as_in_python(both: BothPaths, signal: Signal, fixture: Fixture) -> None:
    if fixture.body[:1] not in b"{[ ":
        pytest.skip("protobuf")
    taken = [
        both.compare(fixture.body, Encoding.JSON, signal, is_local=is_local)
        for is_local in (True, False)
    ]

    assert taken == [fixture.name not in LEFT] * 2
    if all(taken):
        for piece in prepared(fixture.body, signal).pieces:
            assert compare_transcoded(piece.body, signal)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", [1, 100, 300])
def test_bodies_of_the_benchmark_come_out_as_in_python(
    both: BothPaths, kind: str, items: int
) -> None:
    bodies = Bodies(kind, items)
    body, signal = bodies.body(), bodies.wire.signal

    assert both.compare(body, Encoding.JSON, signal)
    for piece in prepared(body, signal).pieces:
        assert compare_transcoded(piece.body, signal)


@pytest.mark.parametrize("seed", range(-(-BODIES // BLOCK)))
def test_generated_and_changed_json_comes_out_as_in_python(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every other time nearly all are cut.
    monkeypatch.setattr(prepare_module, "ROW_BYTES", 3000 if seed % 2 else ROW_BYTES)
    bodies = JsonBodies(seed)
    mode = ("auto", "reject", "derive")[seed % 3]
    settings = replace(SETTINGS, malformed_ids=mode)
    if not seed % 4:
        settings = replace(settings, detected={}, configured={})
    both = BothPaths(MODULE, settings)

    for number in range(BLOCK):
        signal = list(Signal)[number % 3]
        body = bodies.body(signal)
        if both.compare(body, Encoding.JSON, signal, is_local=bool(number % 5)):
            for piece in prepared(body, signal).pieces:
                assert compare_transcoded(piece.body, signal)
                compare_transcoded(bodies.change_text(piece.body), signal)

    # A pass that takes nothing agrees with everything.
    assert sum(both.taken.values()) > 5


def spans_with(**odd: Any) -> Callable[[], bytes]:
    return lambda: traces(GOOD, GOOD | odd, GOOD)


@pytest.mark.parametrize(
    "make",
    [
        spans_with(traceId="xyz"),
        spans_with(traceId=""),
        spans_with(traceId="0" * 32, spanId="bad"),
        spans_with(spanId="B" * 17, links=[{"traceId": "A" * 32, "spanId": ""}]),
        spans_with(parentSpanId="0" * 16),
        spans_with(parentSpanId="zz", attributes=[{"key": "k", "value": {"intValue": 7}}]),
        spans_with(newer=[1, {"a": "\\"}], events=[{"newer": 1, "odd": 2}, {"time_unix_nano": 3}]),
        spans_with(attributes=[{"key": f"k{n % 40}"} for n in range(45)]),
        spans_with(attributes=[{"key": ""}, {"value": {"stringValue": 'é"/'}, "key": "b"}]),
        spans_with(startTimeUnixNano="5", endTimeUnixNano=None, name=None),
        spans_with(kind="SPAN_KIND_SERVER", status={"code": "STATUS_CODE_ERROR"}, flags="257"),
        lambda: traces(GOOD, GOOD | {"spanId": "1"}, resource={"newer": 1}, schemaUrl='a"b'),
        lambda: traces(GOOD, GOOD | {"spanId": "1"}, resource=None),
        lambda: (
            b'{"resourceSpans":[%b]}'
            % b",".join(
                json.dumps(
                    {"scopeSpans": [{"spans": [GOOD]}], "resource": {"x": 1, f"y{n}": 2}}
                ).encode()
                for n in range(5)
            )
        ),
        lambda: traces(
            GOOD | {"newer": 1}, resource={"newer": 1, "entityRefs": [{"type": "host"}]}
        ),
    ],
)
def test_what_is_odd_but_common_is_taken(both: BothPaths, make: Callable[[], bytes]) -> None:
    assert both.compare(make(), Encoding.JSON, Signal.TRACES)


NUMBER: Final = {"timeUnixNano": str(NOW_NS), "asInt": 1}
BUCKETS: Final = {"timeUnixNano": str(NOW_NS), "count": 3, "bucketCounts": ["1", 2]}


@pytest.mark.parametrize(
    "data",
    [
        {"gauge": {"dataPoints": [NUMBER, NUMBER | {"asInt": None}, NUMBER | {"timeUnixNano": 0}]}},
        {"gauge": {"dataPoints": [NUMBER, {"flags": 1}, {"flags": 1, "timeUnixNano": "9"}]}},
        {"sum": {"dataPoints": [NUMBER | {"exemplars": [{"spanId": "0" * 16}, {"asDouble": 1}]}]}},
        {
            "sum": {
                "dataPoints": [
                    NUMBER | {"exemplars": [{"spanId": "1", "asInt": 1}, {"traceId": "x"}]}
                ]
            }
        },
        {"name": "", "gauge": {"dataPoints": [NUMBER, NUMBER]}},
        {"histogram": {"dataPoints": [BUCKETS | {"explicitBounds": [1.5]}, BUCKETS]}},
        {"histogram": {"dataPoints": [BUCKETS | {"bucketCounts": ["0"] * 15_000}] * 2}},
        {"exponentialHistogram": {"dataPoints": [{"timeUnixNano": 7, "positive": {"offset": 1}}]}},
        {"summary": {"dataPoints": [{"timeUnixNano": str(NOW_NS), "sum": 0, "count": "2"}]}},
        {"unit": "1"},
    ],
)
def test_what_is_odd_of_metrics_is_taken(both: BothPaths, data: dict[str, Any]) -> None:
    body = metrics(data, {"gauge": {"dataPoints": [NUMBER]}})

    assert both.compare(body, Encoding.JSON, Signal.METRICS)


@pytest.mark.parametrize(
    "body",
    [
        traces(GOOD).replace(b'"name": "op"', b'"name": "op", "name": "op"'),
        traces(GOOD).replace(b'"op"', b'"\\ud800"'),
        traces(GOOD).replace(b'"op"', b'"\xff"'),
        traces(GOOD).replace(b'"op"', b'"\0"'),
        traces(GOOD) + b"\0",
        traces(GOOD) + b"{}",
        traces(GOOD)[:-1],
        traces(GOOD | {"attributes": [{"key": "d", "value": {"doubleValue": 10**400}}]}),
        traces(GOOD | {"newer": json.loads("[" * 500 + "]" * 500)}),
        traces(*[GOOD | {"spanId": str(number)} for number in range(65)], GOOD),
        b'{"resourceSpans":[%b]}' % b",".join([b"{}"] * 20_000),
        # Python's fast way takes this key of resources for a list of spans that stands twice.
        b'{"resourceSpans":[%b]}'
        % b",".join(
            json.dumps(
                {"resource": {"spans": 1}, "scopeSpans": [{"spans": [GOOD]}]}, indent=4
            ).encode()
            for _ in range(2)
        ),
    ],
    ids=range(12),
)
def test_what_is_in_doubt_is_left_to_python(both: BothPaths, body: bytes) -> None:
    assert not both.compare(body, Encoding.JSON, Signal.TRACES)


def test_values_of_thirty_levels_are_taken_and_deeper_ones_are_left(both: BothPaths) -> None:
    def nested(levels: int) -> bytes:
        value: dict[str, Any] = {"stringValue": "in"}
        for _ in range(levels):
            value = {"kvlistValue": {"values": [{"value": value, "key": "k"}]}}
        return traces(GOOD | {"attributes": [{"key": "deep", "value": value}]})

    assert both.compare(nested(7), Encoding.JSON, Signal.TRACES)
    assert not both.compare(nested(31), Encoding.JSON, Signal.TRACES)


@pytest.mark.parametrize(
    "value", ['{"boolValue": true}', '{"intValue": "5"}', '{"stringValue": "a"}']
)
def test_blanks_in_an_attribute_that_has_few_are_left_out(both: BothPaths, value: str) -> None:
    body = traces(GOOD | {"attributes": [{"key": "k", "value": "here"}]})
    compact = json.dumps(json.loads(body), separators=(",", ":")).replace('"here"', value)

    assert both.compare(compact.encode(), Encoding.JSON, Signal.TRACES)


def test_deep_value_without_a_key_is_transcoded(both: BothPaths) -> None:
    value: dict[str, Any] = {}
    for _ in range(12):
        value = {"arrayValue": {"values": [value]}}
    body = traces(GOOD | {"attributes": [{"key": "", "value": value}]})

    assert both.compare(body, Encoding.JSON, Signal.TRACES)
    assert compare_transcoded(prepared(body).pieces[0].body, Signal.TRACES)


def test_doubles_are_written_as_by_the_encoder(both: BothPaths) -> None:
    powers = [f"{digits}e{power}" for digits in ("1", "1.5", "9.99") for power in range(-330, 308)]
    values = [{"doubleValue": msgspec.Raw(text.encode())} for text in powers]
    attributes = [{"key": f"k{number}", "value": value} for number, value in enumerate(values)]
    body = msgspec.json.encode(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{**GOOD, "attributes": attributes}]}]}]}
    )

    assert both.compare(body, Encoding.JSON, Signal.TRACES)
    assert compare_transcoded(prepared(body).pieces[0].body, Signal.TRACES)
