"""The step that sends a share of all traces, and those whole that are worth it."""

from random import Random

import pytest

from relay.config import DestinationConfig
from relay.config.sample import SampleConfig
from relay.model.records import Encoding, Signal
from relay.otlp.opened import Opened
from relay.process.sample.kept_traces import KeptTraces
from relay.process.sample.probability import NEVER, RatioSampler
from relay.process.steps.condition import Condition
from relay.process.steps.run import Steps, steps_of
from relay.process.steps.sampling import Scout
from tests.unit.process.steps.items import BOTH, Json, encoded, entries, logs, span, spans

LUCKY, UNLUCKY = f"{1:018x}{NEVER - 1:014x}", f"{1:018x}{0:014x}"
ERROR: Json = {"code": 2}


def sampling(scout: Scout | None = None, signal: Signal = Signal.TRACES, **keys: object) -> Steps:
    sample = SampleConfig(**{"ratio": 0.25} | keys)  # type: ignore[arg-type]
    steps = steps_of(
        DestinationConfig(name="a", endpoint="http://a", sample=sample, signal=signal), scout
    )
    assert steps is not None
    return steps


def states(body: bytes, encoding: Encoding) -> dict[str, str]:
    return {
        each["name"]: each.get("traceState", "")
        for entry in entries(body, encoding)
        for scope in entry["scopeSpans"]
        for each in scope["spans"]
    }


@pytest.mark.parametrize("encoding", BOTH)
def test_a_span_is_sent_by_the_chance_of_its_trace_and_says_so(encoding: Encoding) -> None:
    made = encoded(
        spans(
            span(traceId=LUCKY, name="in"),
            span(traceId=UNLUCKY, name="out"),
            span(traceId=UNLUCKY, traceState="ot=rv:f0000000000000,x=y", name="by rv"),
            span(traceId=LUCKY, traceState="ot=th:8", name="before"),
            span(traceId=LUCKY, traceState="ot=th:f", name="rarer"),
        ),
        encoding,
    )
    stepped = sampling().run(made, encoding, Signal.TRACES)
    assert stepped.fates == ["", "sample", "", "", ""]
    assert stepped.filtered == {"sample": 1}
    assert states(stepped.body, encoding) == {
        "in": "ot=th:c",
        "by rv": "ot=th:c;rv:f0000000000000,x=y",
        "before": "ot=th:c",
        "rarer": "ot=th:f",
    }


@pytest.mark.parametrize("encoding", BOTH)
def test_a_trace_that_the_scout_found_is_sent_whole_and_stands_for_itself(
    encoding: Encoding,
) -> None:
    scout = Scout(Condition('status == "ERROR"'), KeptTraces())
    early = encoded(spans(span(traceId=UNLUCKY, name="early", traceState="ot=th:8")), encoding)
    error = encoded(spans(span(traceId=UNLUCKY, name="error", status=ERROR)), encoding)
    steps = sampling(scout, keep='status == "ERROR"')
    assert steps.run(early, encoding, Signal.TRACES).items == 0
    scout.look(Opened(error, encoding, Signal.TRACES), 1)
    assert states(steps.run(early, encoding, Signal.TRACES).body, encoding) == {"early": "ot=th:8"}
    assert states(steps.run(error, encoding, Signal.TRACES).body, encoding) == {"error": ""}


def test_without_a_scout_what_it_is_run_over_is_all_there_is() -> None:
    made = encoded(
        spans(
            span(traceId=UNLUCKY, name="early"),
            span(traceId=UNLUCKY, name="error", status=ERROR),
            span(2, traceId=f"{2:018x}{5:014x}", name="other"),
        ),
        Encoding.JSON,
    )
    steps = sampling(keep='status == "ERROR"')
    assert steps.run(made, Encoding.JSON, Signal.TRACES).fates == ["", "", "sample"]


@pytest.mark.parametrize("encoding", BOTH)
def test_log_records_follow_their_trace_and_those_without_one_stay(encoding: Encoding) -> None:
    body = {"stringValue": "x"}
    made = encoded(
        logs(
            {"traceId": LUCKY, "body": body},
            {"traceId": UNLUCKY, "body": body},
            {"body": body},
        ),
        encoding,
        Signal.LOGS,
    )
    stepped = sampling(signal=Signal.LOGS).run(made, encoding, Signal.LOGS)
    assert stepped.fates == ["", "sample", ""]
    assert not stepped.changed
    kept = KeptTraces()
    kept.add(bytes.fromhex(UNLUCKY), 1)
    scout = Scout(Condition("true"), kept)
    steps = sampling(scout, Signal.LOGS, keep="true")
    assert steps.run(made, encoding, Signal.LOGS).fates == ["", "", ""]


def test_metrics_are_not_sampled() -> None:
    sample = SampleConfig(ratio=0.0)
    view = DestinationConfig(name="a", endpoint="http://a", sample=sample, signal=Signal.METRICS)
    assert steps_of(view) is None


def test_a_condition_that_fails_is_counted_and_keeps_nothing() -> None:
    scout = Scout(Condition('attributes["gone"] == 1'), KeptTraces())
    made = encoded(spans(span(traceId=UNLUCKY)), Encoding.JSON)
    scout.look(Opened(made, Encoding.JSON, Signal.TRACES), 1)
    assert len(scout.kept) == 0
    failed = sampling(scout, keep='attributes["gone"] == 1').conditions["sample"]
    assert (failed.failures, failed.failure) == (1, "there is no gone")


def test_the_share_is_the_ratio() -> None:
    ids = [Random(number).randbytes(16).hex() for number in range(20_000)]
    made = encoded(spans(*(span(n, traceId=each) for n, each in enumerate(ids, 1))), Encoding.JSON)
    steps = sampling(ratio=0.1)
    kept = steps.run(made, Encoding.JSON, Signal.TRACES).items
    assert kept == sum(map(RatioSampler(0.1).keeps, ids))
    assert abs(kept - 2000) < 5 * (20_000 * 0.1 * 0.9) ** 0.5
