"""A snapshot is the same for the same work, whatever its ids, times, order and batches."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mockcollector import MockCollector
from mockcollector.snapshot import VARIES, assert_snapshot, snapshot, to_text
from tests.unit.mockcollector.exchange import send as post_json

pytest_plugins = ["pytester"]


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


def span(name: str, own: str, parent: str = "", **more: Any) -> dict[str, Any]:
    now = time.time_ns()
    return {
        "traceId": more.pop("trace", "0af7651916cd43dd8448eb211c80319c"),
        "spanId": own,
        "parentSpanId": parent,
        "name": name,
        "kind": 2,
        "startTimeUnixNano": str(now - random.randrange(10**9)),
        "endTimeUnixNano": str(now),
        **more,
    }


def traces(*spans: dict[str, Any], process: int = 1) -> dict[str, Any]:
    resource = {
        "attributes": [
            {"key": "service.name", "value": text("shop")},
            {"key": "process.pid", "value": {"intValue": str(process)}},
        ]
    }
    scoped = {"scope": {"name": "shop.pay", "version": "1.2"}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scoped]}]}


def ids(seed: int) -> Callable[[int], str]:
    drawn = random.Random(seed)
    return lambda count: drawn.randbytes(count).hex()


def work(seed: int) -> list[dict[str, Any]]:
    """Two traces, as they come in a run: other ids, another order, other requests."""
    new = ids(seed)
    first, second = new(16), new(16)
    root, pay, ship, lone = (new(8) for _ in range(4))
    spans = [
        span("order", root, trace=first),
        span("pay", pay, root, trace=first, status={"code": 2, "message": "no funds"}),
        span("ship", ship, root, trace=first, links=[{"traceId": second, "spanId": lone}]),
        span("tick", lone, "00f067aa0ba902b7", trace=second),
    ]
    random.Random(seed).shuffle(spans)
    cut = seed % 4
    return [traces(*part, process=seed) for part in (spans[:cut], spans[cut:]) if part]


def snapshot_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    with MockCollector() as collector:
        for document in documents:
            assert post_json(collector, document).status == 200
        return snapshot(collector.journal)


def test_same_work_has_the_same_snapshot() -> None:
    first = to_text(snapshot_of(work(1)))

    assert {to_text(snapshot_of(work(seed))) for seed in range(2, 8)} == {first}


def test_snapshot_shows_shape_and_hides_what_varies() -> None:
    (order, ticks) = sorted(snapshot_of(work(3))["traces"], key=len, reverse=True)[:2]
    trees = {tree[0]["name"]: tree[0] for tree in (order, ticks)}

    assert [child["name"] for child in trees["order"]["children"]] == ["pay", "ship"]
    assert trees["order"]["children"][0]["status_message"] == "no funds"
    assert trees["order"]["children"][1]["links"] == [{"to": "tick"}]
    assert trees["tick"]["parent"] == "elsewhere"
    assert trees["tick"]["resource"] == {"process.pid": VARIES, "service.name": "shop"}
    assert trees["tick"]["scope"] == "shop.pay 1.2"
    assert "UnixNano" not in to_text(snapshot_of(work(3)))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "charge"},
        {"kind": 3},
        {"attributes": [{"key": "cents", "value": {"intValue": "250"}}]},
        {"events": [{"name": "declined", "timeUnixNano": "5"}]},
        {"status": {"code": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_span_says_is_in_the_snapshot(change: dict[str, Any]) -> None:
    plain = span("pay", "b7ad6b7169203331")

    assert snapshot_of([traces(plain)]) != snapshot_of([traces(plain | change)])


def test_logs_and_points_are_there_in_a_stable_order(collector: MockCollector) -> None:
    def logs(*bodies: str) -> dict[str, Any]:
        made = [{"timeUnixNano": str(time.time_ns()), "body": text(body)} for body in bodies]
        return {"resourceLogs": [{"scopeLogs": [{"logRecords": made}]}]}

    point = {"timeUnixNano": "7", "asDouble": 0.5}
    metric = {"name": "load", "unit": "1", "gauge": {"dataPoints": [point]}}
    post_json(collector, logs("two", "one"), path="/v1/logs")
    metrics = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    post_json(collector, metrics, path="/v1/metrics")

    document = snapshot(collector.journal)

    assert document == {
        "logs": [{"body": "one"}, {"body": "two"}],
        "metrics": [{"name": "load", "kind": "gauge", "unit": "1", "value": 0.5}],
    }


def test_difference_is_shown_and_an_update_takes_it_over(
    collector: MockCollector, tmp_path: Path
) -> None:
    golden = tmp_path / "snapshots" / "pay.json"
    post_json(collector, traces(span("pay", "b7ad6b7169203331")))
    with pytest.raises(AssertionError, match=r"there is no snapshot .*--mock-collector-update"):
        assert_snapshot(collector.journal, golden)
    assert_snapshot(collector.journal, golden, is_update=True)
    assert_snapshot(collector.journal, golden)
    golden.write_text(golden.read_text().replace('"pay"', '"buy"'))

    with pytest.raises(AssertionError) as caught:
        assert_snapshot(collector.journal, golden)

    lines = str(caught.value).splitlines()
    assert '-        "name": "buy",' in lines
    assert '+        "name": "pay",' in lines
    assert json.loads(golden.read_text())["traces"][0][0]["name"] == "buy"


def test_fixture_compares_and_the_option_writes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import urllib.request

        BODY = (b'{"resourceLogs":[{"scopeLogs":[{"logRecords":['
                b'{"body":{"stringValue":"paid"},"timeUnixNano":"%d"}]}]}]}')


        def test_pays(mock_collector, mock_collector_snapshot):
            import time

            headers = {"Content-Type": "application/json"}
            body = BODY % time.time_ns()
            urllib.request.urlopen(
                urllib.request.Request(mock_collector.endpoint_of("logs"), body, headers)
            ).close()
            mock_collector_snapshot(mock_collector)
        """
    )
    arguments = ("-p", "no:cacheprovider")

    pytester.runpytest_subprocess(*arguments).assert_outcomes(failed=1)
    pytester.runpytest_subprocess(*arguments, "--mock-collector-update").assert_outcomes(passed=1)
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=1)
    golden = pytester.path / "snapshots" / "test_pays.json"
    assert json.loads(golden.read_text()) == {"logs": [{"body": "paid"}]}
