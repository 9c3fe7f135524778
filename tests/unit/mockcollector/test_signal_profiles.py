"""What vendors take and refuse of log records and data points, in their words."""

import time
from typing import Any

import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped]

from mockcollector import MockCollector, profiles
from mockcollector.profiles import PROFILES, ProfileError, build, options_of
from mockcollector.signals import Signal
from tests.unit.mockcollector.exchange import (
    Reply,
    attribute_json,
    logs_json,
    metrics_json,
    point_json,
    record_json,
    request_json,
    send,
    sum_json,
    twin,
)

NOW = time.time_ns()
MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
MADE = {"traces": request_json(), "logs": logs_json(), "metrics": metrics_json()}
SIGNALS = [
    (name, str(signal))
    for name in PROFILES
    for signal, rules in build(name).rules.items()
    if rules.closed is None
]


def post(
    collector: MockCollector,
    signal: str,
    made: Any,
    *,
    is_json: bool = False,
    headers: dict[str, str] | None = None,
) -> Reply:
    """A request as the profile wants it, in protobuf unless told otherwise."""
    kind = "application/json" if is_json else "application/x-protobuf"
    sent = collector.headers_of(signal) if headers is None else headers
    path = collector.endpoint_of(signal).removeprefix(collector.base_url)
    body = made if is_json else twin(made, signal)
    return send(collector, body, path=path, headers={"Content-Type": kind, **sent})


def points_at(*times: int, value: int = 1, name: str = "orders") -> dict[str, Any]:
    return metrics_json(
        sum_json(*(point_json(value, timeUnixNano=str(at)) for at in times), name=name)
    )


def words(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.body.decode().strip()


@pytest.mark.parametrize(("name", "signal"), SIGNALS)
def test_profile_takes_a_right_request_of_each_of_its_signals(name: str, signal: str) -> None:
    made = MADE[signal]
    if signal == "logs":  # old entries are refused by some
        made = logs_json(record_json(timeUnixNano=str(NOW)))
    with MockCollector(profile=name) as collector:
        reply = post(collector, signal, made)

        assert 200 <= reply.status <= 299, reply.body
        assert collector.journal.counts.accepted[Signal(signal)] == 1


@pytest.mark.parametrize(
    ("name", "signal"), [each for each in SIGNALS if "token" in options_of(each[0])]
)
def test_profile_refuses_a_signal_with_a_wrong_token(name: str, signal: str) -> None:
    with MockCollector(profile=name, token="right:one") as collector:
        wrong = dict.fromkeys(collector.headers_of(signal), "wrong")
        assert post(collector, signal, MADE[signal], headers=wrong).status in {401, 403, 422}


def test_axiom_wants_another_header_for_metrics_and_protobuf() -> None:
    with MockCollector(profile="axiom") as collector:
        usual = collector.headers_of("traces")
        missing = post(collector, "metrics", MADE["metrics"], headers=usual)
        as_json = post(collector, "metrics", MADE["metrics"], is_json=True)

        assert post(collector, "logs", MADE["logs"], headers=usual, is_json=True).status == 200
        assert missing.status == 400
        assert b"X-Axiom-Metrics-Dataset" in missing.body
        assert as_json.status == 415
        assert post(collector, "metrics", MADE["metrics"]).status == 200
        large = metrics_json(sum_json(point_json(), name="x" * 4 * 2**20))
        assert post(collector, "metrics", large).status == 413


@pytest.mark.parametrize(("name", "signal"), [("victoria-metrics", "metrics"), ("victoria-logs", "logs")])  # fmt: skip  # noqa: E501
def test_victoria_takes_protobuf_only_and_says_so_with_a_400(name: str, signal: str) -> None:
    with MockCollector(profile=name) as collector:
        refused = post(collector, signal, MADE[signal], is_json=True)
        taken = post(collector, signal, MADE[signal])
        astray = send(collector, b"", path="/v1/elsewhere")

    assert words(astray) == (400, "unsupported path requested")
    assert words(refused) == (
        400,
        "json encoding isn't supported for opentelemetry format. Use protobuf encoding",
    )
    assert (taken.status, taken.body) == (200, b"")


def test_victoria_refuses_a_metric_without_name_and_a_negative_severity() -> None:
    with MockCollector(profile="victoria-metrics") as collector:
        nameless = post(collector, "metrics", metrics_json(sum_json(point_json(), name="")))
    with MockCollector(profile="victoria-logs") as collector:
        negative = post(collector, "logs", logs_json(record_json(severityNumber=-1)))

    assert words(nameless) == (
        400,
        "cannot decode OpenTelemetry protocol data: cannot unmarshal Metric: missing metric name",
    )
    assert words(negative) == (
        400,
        (
            "cannot read OpenTelemetry protocol data: cannot decode LogRecord:"
            " cannot read severity number"
        ),
    )


@pytest.mark.parametrize("missing", ["traces", "logs", "metrics"])
def test_collector_without_a_pipeline_is_404_for_its_signal_alone(missing: str) -> None:
    with MockCollector(profile=build("otel-collector", None, **{missing: False})) as collector:
        for signal, made in MADE.items():
            reply = send(collector, twin(made, signal), path=f"/v1/{signal}")
            assert reply.status == (404 if signal == missing else 200)
            if signal == missing:
                assert reply.body == b"404 page not found\n"


def test_collector_takes_invalid_points_as_the_real_one_does() -> None:
    with MockCollector(profile="otel-collector") as collector:
        made = metrics_json(sum_json({"timeUnixNano": "1"}, {"asInt": "1"}))
        short: Any = twin(logs_json(), "logs")
        short.resource_logs[0].scope_logs[0].log_records[0].trace_id = b"short"

        assert post(collector, "metrics", made).status == 200
        assert send(collector, short, path="/v1/logs").status == 400


@pytest.mark.parametrize(
    ("name", "signal", "status"),
    [
        ("jaeger", "logs", 404),
        ("tempo", "metrics", 404),
        ("mlflow", "logs", 404),
        ("phoenix", "logs", 405),
        ("phoenix", "metrics", 405),
        ("prometheus", "traces", 404),
        ("loki", "metrics", 404),
    ],
)
def test_signal_that_a_vendor_does_not_take_is_refused(name: str, signal: str, status: int) -> None:
    with MockCollector(profile=name) as collector:
        assert post(collector, signal, MADE[signal]).status == status
        assert Signal(signal) not in collector.signals


def test_langfuse_says_200_to_metrics_and_keeps_none() -> None:
    with MockCollector(profile="langfuse") as collector:
        assert post(collector, "metrics", MADE["metrics"]).status == 200
        assert collector.journal.counts.data_points_accepted == 0
        assert "thrown away" in collector.journal.requests()[0].reason


# Prometheus: times, then contents.


def test_prometheus_takes_all_of_a_request_or_nothing() -> None:
    with MockCollector(profile="prometheus") as collector:
        good = post(collector, "metrics", points_at(NOW))
        mixed = metrics_json(
            sum_json(point_json(2, timeUnixNano=str(NOW + MINUTE)), name="new"),
            sum_json(point_json(2, timeUnixNano=str(NOW - MINUTE))),
        )
        refused = post(collector, "metrics", mixed)
        again = post(collector, "metrics", points_at(NOW + MINUTE - 1, name="new"))

        assert (good.status, good.body) == (200, b"")
        assert words(refused) == (400, "out of order sample")
        assert refused.headers["content-type"] == "text/plain; charset=utf-8"
        assert again.status == 200  # the newer one of that name was not stored
        counts = collector.journal.counts
        assert (counts.data_points_accepted, counts.data_points_refused) == (2, 2)


def test_prometheus_takes_the_same_sample_again_but_no_other_value() -> None:
    with MockCollector(profile="prometheus") as collector:
        assert post(collector, "metrics", points_at(NOW)).status == 200
        assert post(collector, "metrics", points_at(NOW)).status == 200
        other = post(collector, "metrics", points_at(NOW, value=2))

    at_ms = NOW // 1_000_000
    assert words(other) == (
        400,
        f"duplicate sample for timestamp {at_ms}; overrides not allowed: existing 1, new value 2",
    )


def test_prometheus_refuses_what_is_too_old_or_ahead() -> None:
    with MockCollector(profile="prometheus") as collector:
        assert post(collector, "metrics", points_at(NOW)).status == 200
        fifty = post(collector, "metrics", points_at(NOW - 50 * MINUTE, name="other"))
        seventy = post(collector, "metrics", points_at(NOW - 70 * MINUTE, name="third"))
        zero = post(collector, "metrics", points_at(0, name="third"))
        ahead = post(collector, "metrics", points_at(time.time_ns() + 11 * MINUTE))

    assert fifty.status == 200
    assert words(seventy) == words(zero) == (400, "out of bounds")
    assert words(ahead) == (400, "out of bounds: timestamp is too far in the future")


def test_prometheus_with_a_window_takes_late_samples_within_it() -> None:
    profile = build("prometheus", None, out_of_order_window="7200")
    with MockCollector(profile=profile) as collector:
        assert post(collector, "metrics", points_at(NOW)).status == 200
        assert post(collector, "metrics", points_at(NOW - MINUTE)).status == 200
        assert post(collector, "metrics", points_at(NOW - 100 * MINUTE)).status == 200
        old = post(collector, "metrics", points_at(NOW - 3 * HOUR))

    assert words(old) == (400, "too old sample")


def exponential(**fields: Any) -> dict[str, Any]:
    point = {"timeUnixNano": str(NOW), "count": "0", "scale": 0} | fields
    return {
        "name": "e",
        "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point]},
    }


def now_point(**fields: Any) -> dict[str, Any]:
    return point_json(timeUnixNano=str(NOW), **fields)


def gauge(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "gauge": {"dataPoints": [now_point()]}} | fields


CONTENT = [
    (
        {"name": "none"},
        "could not get aggregation temporality for none as it has unsupported metric type Empty",
    ),
    (gauge(""), 'normalization for metric "" resulted in empty name'),
    (gauge("%%"), 'normalization for metric "%%" resulted in empty name'),
    (sum_json(now_point(attributes=[attribute_json("", intValue="1")])), "label name is empty"),
    (
        sum_json(name="d", aggregationTemporality=1),
        'invalid temporality and type combination for metric "d"',
    ),
    (
        sum_json(now_point(), name="u", aggregationTemporality=0),
        'invalid temporality and type combination for metric "u"',
    ),
    (exponential(scale=-5), "cannot convert exponential to native histogram. Scale must be >= -4"),
    (exponential(count="3"), "0 observations found in buckets, but the Count field is 3"),
    (sum_json(now_point(exemplars=[{"timeUnixNano": "1"}])), "unsupported exemplar value type"),
]


@pytest.mark.parametrize(("metric", "text"), CONTENT, ids=[text for _, text in CONTENT])
def test_prometheus_says_500_to_content_that_it_cannot_translate(
    metric: dict[str, Any], text: str
) -> None:
    good = sum_json(now_point(), name="good")
    with MockCollector(profile="prometheus") as collector:
        status, said = words(post(collector, "metrics", metrics_json(good, metric)))

        assert status == 500
        assert said.startswith(text)
        assert collector.journal.data_points() == []
        assert len(collector.journal.data_points(include_refused=True)) >= 1


def test_prometheus_takes_a_name_that_has_only_a_unit_or_total() -> None:
    counter = sum_json(now_point(), name="")
    with MockCollector(profile="prometheus") as collector:
        assert post(collector, "metrics", metrics_json(gauge("", unit="s"))).status == 200
        assert post(collector, "metrics", metrics_json(counter)).status == 200
        braced = post(collector, "metrics", metrics_json(gauge("", unit="{order}")))

    assert braced.status == 500


def test_prometheus_tells_each_error_on_a_line_of_its_own() -> None:
    made = metrics_json(gauge(""), sum_json(now_point(), name="d", aggregationTemporality=1))
    with MockCollector(profile="prometheus") as collector:
        status, said = words(post(collector, "metrics", made))

    assert (status, len(said.splitlines())) == (500, 2)


def test_prometheus_compares_the_whole_content_type() -> None:
    with MockCollector(profile="prometheus") as collector:
        exact = {"Content-Type": "application/x-protobuf; charset=utf-8"}
        assert post(collector, "metrics", points_at(NOW), headers=exact).status == 400


def test_mimir_stores_the_rest_of_a_request_that_it_refuses() -> None:
    made = metrics_json(
        sum_json(point_json(1), name="bad", aggregationTemporality=1),
        sum_json(point_json(2), name="good"),
    )
    with MockCollector(profile="mimir") as collector:
        reply = post(collector, "metrics", made)

        assert reply.status == 400
        assert b"invalid temporality" in reply.body
        assert [point.name for point in collector.journal.data_points()] == ["good"]


# Loki.


def test_loki_says_204_with_no_body() -> None:
    with MockCollector(profile="loki") as collector:
        reply = post(collector, "logs", logs_json(record_json(timeUnixNano=str(NOW))))

    assert (reply.status, reply.body) == (204, b"")


def test_loki_stores_what_it_can_of_a_request_that_it_refuses() -> None:
    old, ahead, good = (
        record_json(timeUnixNano=str(at), body={"stringValue": name})
        for name, at in (
            ("old", NOW - 8 * 24 * HOUR),
            ("ahead", time.time_ns() + 11 * MINUTE),
            ("good", NOW),
        )
    )
    long = record_json(timeUnixNano=str(NOW), body={"stringValue": "x" * 300_000})
    observed = record_json(timeUnixNano="0", observedTimeUnixNano=str(NOW))
    with MockCollector(profile="loki") as collector:
        reply = post(collector, "logs", logs_json(old, good, ahead, long, observed))

        assert reply.status == 400
        assert reply.headers["content-type"] == "application/octet-stream"
        status = status_pb2.Status.FromString(reply.body)
        assert status.code == 0
        assert status.message.startswith(
            "entry for stream '{service_name=\"shop\"}' has timestamp too old: "
        )
        assert [record.body for record in collector.journal.log_records()] == ["good", "paid"]
        counts = collector.journal.counts
        assert (counts.log_records_accepted, counts.log_records_refused) == (2, 3)


def test_loki_refuses_entries_far_behind_their_own_stream() -> None:
    late = record_json(timeUnixNano=str(NOW - 2 * HOUR))
    with MockCollector(profile="loki") as collector:
        new = logs_json(record_json(timeUnixNano=str(NOW)))
        assert post(collector, "logs", new).status == 204
        assert post(collector, "logs", logs_json(late, service="bank")).status == 204
        reply = post(collector, "logs", logs_json(late))

    assert reply.status == 400
    assert b"entry too far behind" in reply.body


def test_option_of_a_profile_that_makes_no_sense_is_named() -> None:
    none = {"traces": False, "logs": False, "metrics": False}
    with pytest.raises(ProfileError, match="one pipeline at least"):
        build("otel-collector", None, **none)
    with pytest.raises(ProfileError, match="a whole number of seconds"):
        build("prometheus", None, out_of_order_window="2h")


def test_two_collectors_of_one_profile_know_nothing_of_each_other() -> None:
    for _ in range(2):
        with MockCollector(profile=profiles.build("prometheus")) as collector:
            assert post(collector, "metrics", points_at(NOW)).status == 200
            assert post(collector, "metrics", points_at(NOW - MINUTE)).status == 400
