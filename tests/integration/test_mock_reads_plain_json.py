"""What the mock collector reads as plain JSON is right by every rule of its strict decoder."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from mockcollector import json_plain
from mockcollector.decoding import Decoded, decode
from mockcollector.items import ReceivedItem, flatten
from mockcollector.matching import WORDS
from mockcollector.rules import Encoding, Rules
from mockcollector.signals import Signal
from relay.model.records import Signal as RelaySignal
from tests.bench.payloads import Bodies
from tests.support.json_fuzz import JsonBodies

USUAL = {Signal.TRACES: "service", Signal.LOGS: "log", Signal.METRICS: "point"}
WRITERS: dict[str, dict[str, Any]] = {
    "JSON.stringify": {"ensure_ascii": False, "separators": (",", ":")},
    "json.dumps": {},
    "indented": {"indent": 2},
}
TEXT = "“é” / \U0001f600 \u2028 \x7f \x01\b\n\t\\ \"'"


def read_strictly(body: bytes, signal: Signal, monkeypatch: pytest.MonkeyPatch) -> Decoded:
    with monkeypatch.context() as patch:
        patch.setattr(json_plain, "read_plain", lambda *_: None)
        return decode(body, Encoding.JSON, signal, Rules())


def is_plain_and_right(body: bytes, signal: Signal, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether it is read as plain; then the strict decoder must read the same."""
    plain = json_plain.read_plain(body, signal)
    if plain is None:
        return False
    strict = read_strictly(body, signal, monkeypatch)  # raises what is wrong
    assert (plain.count, plain.span_ids) == (strict.count, strict.span_ids)
    assert (strict.unknown_keys, strict.flaws) == ((), ())
    assert plain.services in (None, strict.services)
    assert plain.names in (None, strict.names)
    assert json_plain.plain_message(body, signal) == strict.message
    assert asked(plain.view, signal) == asked(strict.message, signal)
    return True


def asked(message: Any, signal: Signal) -> list[dict[str, Any]]:
    """All that a test can ask of the items, as text where two parts are never equal."""
    return [answers(item, signal) for item in flatten(message, 1)]


def answers(item: ReceivedItem, signal: Signal) -> dict[str, Any]:
    words = {
        word: getattr(item, word) for word in WORDS[signal] if word not in ("scope", "resource")
    }
    keys = {key: item.attribute(key, "absent") for key in (*item.attributes, "no such key")}
    return words | {
        "keys": keys,
        "scope": (item.scope.name, item.scope.version, item.scope.attributes),
        "resource": (item.resource.attributes, item.resource.schema_url),
        "shown": repr(item),
    }


def written(body: bytes, writer: str) -> bytes:
    """A usual body as that writer would have written it, with odd characters in it."""
    document = json.loads(body)
    (resources,) = document.values()
    resources[0]["schemaUrl"] = TEXT
    return json.dumps(document, **WRITERS[writer]).encode()


def compact(body: bytes) -> bytes:
    """Without blanks between, as JSON.stringify writes; numbers stay as they are."""
    return re.sub(rb'("(?:[^"\\]|\\.)*")|\s+', lambda found: found[1] or b"", body)


@pytest.mark.parametrize("signal", Signal)
def test_what_is_read_as_plain_is_right_by_every_rule(
    signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies as senders write them, odd ones, and each of them changed in a few places."""
    made = JsonBodies(7)
    usual = Bodies(USUAL[signal], 2)
    taken: Counter[str] = Counter()
    for seed in range(300):
        if seed % 2:
            body = written(usual.body(), tuple(WRITERS)[seed % 3])
        else:
            body = JsonBodies(seed).body(RelaySignal[signal.name])
        for _ in range(6):
            if is_plain_and_right(body, signal, monkeypatch):
                taken["in all"] += 1
                taken["with blanks"] += len(compact(body)) < len(body)
                taken["with escapes"] += rb"\u" in body or rb"\/" in body
            body = made.change_text(body)
    assert taken["in all"] > 150
    assert min(taken["with blanks"], taken["with escapes"]) > 50, taken


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("writer", WRITERS)
def test_usual_bodies_are_read_as_plain_however_they_are_written(
    signal: Signal, writer: str
) -> None:
    body = written(Bodies(USUAL[signal], 3).body(), writer)
    assert json_plain.read_plain(body, signal) is not None
    resource, *_ = json_plain.plain_message(body, signal).ListFields()[0][1]
    assert resource.schema_url == TEXT


@pytest.mark.parametrize(
    "text",
    [
        '{"resourceSpans":[],"resourceSpans":[]}',
        '{"resourceSpans" : [], "resourceSpans" : []}',
        '{"\\u0072esourceSpans":[],"resourceSpans":[]}',
        '{"resourceSpans":[{"schemaUrl":"\\u00e9","schemaUrl":""}]}',
        '{"resourceSpans":[{"schemaUrl":"\\ud800"}]}',
        '{"resourceSpans":[{"schemaUrl":"\\/","scopeSpans":[{"spans":null}]}]}',
        '{"resourceSpans":[]} x',
    ],
)
def test_what_is_lost_in_reading_is_left_to_the_strict_decoder(text: str) -> None:
    assert json_plain.read_plain(text.encode(), Signal.TRACES) is None


EXEMPLAR = {"timeUnixNano": "3", "asInt": "-7", "traceId": "0af7651916cd43dd" * 2, "spanId": ""}
POINT: dict[str, Any] = {
    "attributes": [{"key": "k", "value": {"boolValue": True}}],
    "startTimeUnixNano": "1",
    "timeUnixNano": 1_700_000_000_000_000_000,
    "flags": 0,
    "exemplars": [EXEMPLAR],
}
HISTOGRAM = POINT | {"count": "3", "sum": 4.5, "min": 0, "max": 2.5e0}
NUMBERS: list[dict[str, Any]] = [POINT | {"asInt": "-5"}, POINT | {"asDouble": 1.5}]
KINDS: dict[str, dict[str, Any]] = {
    "gauge": {"dataPoints": NUMBERS},
    "sum": {"dataPoints": NUMBERS, "aggregationTemporality": 2, "isMonotonic": True},
    "histogram": {
        "dataPoints": [HISTOGRAM | {"bucketCounts": ["1", 2], "explicitBounds": [0.5]}],
        "aggregationTemporality": 1,
    },
    "exponentialHistogram": {
        "dataPoints": [
            HISTOGRAM
            | {"scale": -3, "zeroCount": "1", "zeroThreshold": 0.001}
            | {"positive": {"offset": -2, "bucketCounts": [1, "1"]}, "negative": {"offset": 4}}
        ],
        "aggregationTemporality": 1,
    },
    "summary": {
        "dataPoints": [
            {"timeUnixNano": "9", "count": 3, "sum": 4.0}
            | {"quantileValues": [{"quantile": 0.5, "value": 1}, {"quantile": 1.0}]}
        ]
    },
}
ODD: tuple[Any, ...] = (
    *(None, "", "x", 0, -1, 1, 3, 2**63, 2**64, 1.5, "1e2", "01", "-1", "18446744073709551615"),
    *(True, [], {}, [1], ["2", "3"], [1.5, 0.5], "NaN", {"asInt": 1}, "2", -(2**31) - 1),
)


def changed(tree: Any) -> Iterator[Any]:
    """The tree with each of its members gone, or something odd instead."""
    places = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(places):
        copy = tree.copy()
        del copy[key]
        yield copy
        others = changed(value) if isinstance(value, dict | list) else iter(())
        for other in (*others, *ODD):
            copy = tree.copy()
            copy[key] = other
            yield copy


@pytest.mark.parametrize("kind", KINDS)
def test_metric_of_each_kind_is_plain_and_right_whatever_is_changed_in_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = {"name": "m", "unit": "s", "description": "d", "metadata": [], kind: KINDS[kind]}
    taken = [
        is_plain_and_right(written_metric(each), Signal.METRICS, monkeypatch)
        for each in (metric, *changed(metric))
    ]
    assert taken[0]
    assert sum(taken) > 20
    assert taken.count(False) > 20


def written_metric(metric: Any) -> bytes:
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
