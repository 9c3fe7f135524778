"""What a destination's own settings keep from it: its match, and the temporality that it takes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.model.reasons import Reason
from relay.model.records import DestinationState, Encoding, Signal
from relay.otlp.transcode import to_json, to_protobuf
from relay.upstream.outcomes import Blocked, Delivered, Outcome
from tests.support.builders import to_body
from tests.unit.buffer.making import NOW_NS, piece, request
from tests.unit.deliver.delivering import InProcess, delivering

pytestmark = pytest.mark.anyio
TRACES, METRICS = Signal.TRACES, Signal.METRICS


class Upstream(InProcess):
    """Takes everything but one name, whatever it is a name of."""

    def __init__(self, signal: Signal, bad: str = "") -> None:
        self.signal = signal
        self.bad = bad
        self.took: list[str] = []
        self.requests = 0

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        self.requests += 1
        found = names(batch.fragment, batch.encoding, self.signal)
        if self.bad in found:
            return Blocked("up answered 400: no", status=400, words="no")
        self.took += found
        return Delivered(200)


def names(fragment: bytes, encoding: Encoding, signal: Signal) -> list[str]:
    text = to_json(fragment, signal) if encoding is Encoding.PROTOBUF else fragment
    scopes, records = ("scopeSpans", "spans") if signal is TRACES else ("scopeMetrics", "metrics")
    return [
        each["name"]
        for entry in json.loads(b"[%b]" % text)
        for scope in entry[scopes]
        for each in scope[records]
    ]


def spans(*named: str) -> bytes:
    return to_body({"scopeSpans": [{"spans": [{"name": each} for each in named]}]})


async def test_what_does_not_match_is_settled_unsent_and_counted(tmp_path: Path) -> None:
    terms = DestinationConfig(
        name="a", endpoint="http://h/v1/traces", encoding="json", match='name != "health"'
    )
    upstream = Upstream(TRACES)
    rows = [("good", "health"), ("health", "health"), ("fine",)]
    kept = [request(piece(spans(*each), spans=len(each))) for each in rows]
    async with delivering(tmp_path, terms, kept, upstream) as at:
        await at.done()
        status = at.courier.status
        assert sorted(upstream.took) == ["fine", "good"]
        assert status.filtered_items == {"match": 3}
        assert (status.delivered_items, status.refused_items) == (2, 0)
        before = upstream.requests
        await at.buffer.append(request(piece(spans("health", "health"), spans=2)))
        await at.done()
        assert upstream.requests == before
        assert status.filtered_items == {"match": 5}
        assert status.state is DestinationState.IDLE
        assert await at.letters() == []


@pytest.mark.parametrize("encoding", Encoding)
async def test_what_is_refused_after_steps_becomes_a_dead_letter_as_it_was_kept(
    tmp_path: Path, encoding: Encoding
) -> None:
    terms = DestinationConfig(
        name="a", endpoint="http://h/v1/traces", encoding="json", match='name != "health"'
    )
    upstream = Upstream(TRACES, bad="bad")
    body = spans("good", "health", "bad", "health")
    if encoding is Encoding.PROTOBUF:
        body = to_protobuf(body, TRACES)
    kept = [request(piece(body, spans=4, encoding=encoding))]
    kept.append(request(piece(spans("fine"))))
    async with delivering(tmp_path, terms, kept, upstream) as at:
        await at.done()
        (letter,) = await at.letters()
        assert sorted(set(upstream.took)) == ["fine", "good"]
        assert at.courier.status.filtered_items == {"match": 2}
    assert names(letter.body, letter.encoding, TRACES) == ["bad"]
    assert (letter.items, letter.words, letter.status) == (1, "no", 400)


def metric(name: str, kind: str, **more: Any) -> dict[str, Any]:
    points = [{"timeUnixNano": str(NOW_NS), "startTimeUnixNano": "1"}]
    return {"name": name, kind: {"dataPoints": points, **more}}


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize(("wanted", "other"), [("delta", "cumulative"), ("cumulative", "delta")])
async def test_points_of_a_temporality_that_it_does_not_take_are_set_aside_unsent(
    tmp_path: Path, encoding: Encoding, wanted: Any, other: str
) -> None:
    terms = DestinationConfig(
        name="a", endpoint="http://h/v1/metrics", signal=METRICS, temporality=wanted
    )
    made = [
        metric("gauge", "gauge"),
        metric("delta", "sum", aggregationTemporality=1),
        metric("cumulative", "histogram", aggregationTemporality=2),
        metric("unsaid", "sum"),
    ]
    body = to_body({"scopeMetrics": [{"metrics": made}]})
    if encoding is Encoding.PROTOBUF:
        body = to_protobuf(body, METRICS)
    kept = [request(piece(body, spans=4, encoding=encoding, signal=METRICS))]
    upstream = Upstream(METRICS)
    async with delivering(tmp_path, terms, kept, upstream) as at:
        await at.done()
        letters = await at.letters()
        assert sorted(upstream.took) == sorted(["gauge", wanted])
        assert (at.courier.status.delivered_items, at.courier.status.refused_items) == (2, 2)
        assert len(at.courier.status.warnings) == 2
    words = {names(each.body, each.encoding, METRICS)[0]: each.words for each in letters}
    assert words.keys() == {other, "unsaid"}
    assert all(each.startswith(f"a takes only {wanted}") for each in words.values())
    assert f"PREFERENCE={wanted} at the sender" in words[other]
    assert "does not say which this is" in words["unsaid"]
    assert {each.reason for each in letters} == {Reason.TEMPORALITY}
