"""What `[process]` takes from records that another program wrote is counted as of requests."""

from pathlib import Path

from confluent_kafka import Producer

from mockcollector.server import MockCollector
from tests.fleet.fleets import relay_of
from tests.support.builders import protobuf_twin, request, span, text_attribute
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually

STEPS = """[process]
drop = 'name == "health"'
redact = { keys = ["password"] }
"""


def test_what_is_dropped_or_redacted_of_a_collectors_records_is_counted_once(
    broker: Brokers, tmp_path: Path
) -> None:
    secret = [text_attribute("password", "hunter2")]
    records = [
        request(span(attributes=secret), span(name="health")),
        request(span(name="health"), span(name="health")),
        request(span(name="plain", spanId="00f067aa0ba902b8")),
    ]
    with MockCollector() as one, MockCollector(script="503,200*") as other:
        destinations = {"one": {"endpoint": one.endpoint}, "other": {"endpoint": other.endpoint}}
        with relay_of(broker, tmp_path / "a", destinations, more=STEPS) as relay:
            producer = Producer({"bootstrap.servers": ",".join(broker.bootstrap), "acks": "all"})
            for each in records:
                producer.produce("otlp_spans", protobuf_twin(each).SerializeToString())
            assert producer.flush(30) == 0
            for upstream in (one, other):
                upstream.journal.wait_for_spans(2)
            eventually(lambda: relay.owed("one") == relay.owed("other") == 0, what="all delivered")
            spans = relay.status()["ingest"]["signals"]["traces"]
            assert spans["processed"] == {"drop": 3, "redact": 2}
            metrics = relay.get("/metrics", parse=False)[1]
            line = 'otlp_relay_processed_spans_total{signal="traces",step="%s"} %.1f'
            assert line % ("drop", 3) in metrics
            assert line % ("redact", 2) in metrics
            for upstream in (one, other):
                names = sorted(each.name for each in upstream.journal.spans())
                assert len(names) == 2
                assert "health" not in names
