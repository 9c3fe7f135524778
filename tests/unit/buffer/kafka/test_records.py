"""What a record holds: a request for whoever reads the topic, and all that a relay must know."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.places import Place, place_of
from relay.buffer.kafka.records import (
    CRC,
    ITEMS,
    DamagedRecord,
    Decoder,
    Headers,
    Incoming,
    NotOtlp,
    Outgoing,
    Record,
    records_of,
)
from relay.buffer.kafka.settings import KafkaSettings, topic_of
from relay.config.fleet import FleetConfig
from relay.config.steps import ProcessConfig, RedactConfig
from relay.model.records import BodyFlag, Encoding, Piece, Request, Sender, Signal
from relay.process.before_kept import BeforeKept
from relay.process.foreign import FOREIGN, PrepareForeign
from relay.process.prepare import Prepare, PrepareSettings
from tests.support.builders import protobuf_twin, request, span, text_attribute, to_body

SETTINGS = KafkaSettings(FleetConfig(brokers=("k1:9092",)), "relay-1")
PREPARE = Prepare(PrepareSettings())
DECODE = Decoder(SETTINGS, PrepareForeign(lambda: (PREPARE.settings, None)))
SENDER = Sender("192.0.2.7", user_agent="sdk/1", hops="aa,bb")
NOW_NS = 1_767_225_605_123_456_789


def prepared(encoding: Encoding = Encoding.PROTOBUF, spans: int = 3) -> Request:
    made = request(*(span() for _ in range(spans)))
    body = to_body(made) if encoding is Encoding.JSON else protobuf_twin(made).SerializeToString()
    pieces = PREPARE(body, encoding, SENDER).pieces
    return Request(pieces, SENDER, NOW_NS)


def sent(outgoing: Outgoing, **changes: object) -> Record:
    """As a broker gives it back."""
    made = {"topic": outgoing.topic, "partition": 5, "offset": 41, "value": outgoing.value}
    return Record(**{**made, "headers": outgoing.headers, **changes})  # type: ignore[arg-type]


def foreign(value: bytes | None, encoding: Encoding = Encoding.PROTOBUF) -> Incoming:
    topic = SETTINGS.rows_topic(Signal.TRACES, encoding)
    return DECODE(Record(topic, 2, 0, value, (("traceparent", b"x"),), NOW_NS // 1_000_000))


@pytest.mark.parametrize("encoding", Encoding)
def test_a_piece_comes_back_as_the_row_that_it_was(encoding: Encoding) -> None:
    whole = prepared(encoding)
    (outgoing,) = records_of(whole, SETTINGS)
    read = DECODE(sent(outgoing))
    (piece,) = whole.pieces
    assert read.row.body == piece.body
    assert place_of(read.row.row) == Place(Signal.TRACES, encoding, 5, 41)
    assert (read.row.items, read.row.received_ns, read.row.hops) == (3, NOW_NS, "aa,bb")
    assert read.row.flags == piece.flags | BodyFlag.RELAYED
    assert read.trace_ids == piece.trace_ids
    assert (read.part.address, read.part.user_agent) == ("192.0.2.7", "sdk/1")
    assert read.part.services == ("shop",)
    assert not read.only


def test_the_value_is_a_request_that_anybody_can_read() -> None:
    (outgoing,) = records_of(prepared(), SETTINGS)
    assert len(ExportTraceServiceRequest.FromString(outgoing.value or b"").resource_spans) == 1
    (outgoing,) = records_of(prepared(Encoding.JSON), SETTINGS)
    assert list(json.loads(outgoing.value or b"")) == ["resourceSpans"]
    assert outgoing.timestamp_ms == NOW_NS // 1_000_000


def test_a_record_for_one_destination_says_for_which() -> None:
    (outgoing,) = records_of(prepared(), SETTINGS, "axiom")
    assert DECODE(sent(outgoing)).only == "axiom"


def test_every_record_has_an_id_of_its_own() -> None:
    whole = prepared()
    first, second = records_of(whole, SETTINGS) + records_of(whole, SETTINGS)
    assert first.headers[0] != second.headers[0]


def flipped(content: bytes, bit: int) -> bytes:
    at = bit // 8 % len(content)
    return content[:at] + bytes([content[at] ^ 1 << bit % 8]) + content[at + 1 :]


@given(bit=st.integers(0, 100_000), which=st.integers(0, 100))
def test_any_flipped_bit_is_noticed(bit: int, which: int) -> None:
    (outgoing,) = records_of(prepared(), SETTINGS, "axiom")
    value, headers = outgoing.value or b"", outgoing.headers
    at = which % (len(headers) + 1)
    if at == len(headers):
        damaged = sent(outgoing, value=flipped(value, bit))
    else:
        name, content = headers[at]
        changed: Headers = (*headers[:at], (name, flipped(content, bit)), *headers[at + 1 :])
        damaged = sent(outgoing, headers=changed)
    with pytest.raises(DamagedRecord):
        DECODE(damaged)


def test_a_header_that_is_gone_is_noticed_and_one_of_others_is_not() -> None:
    (outgoing,) = records_of(prepared(), SETTINGS)
    fewer = tuple(each for each in outgoing.headers if each[0] != ITEMS)
    with pytest.raises(DamagedRecord):
        DECODE(sent(outgoing, headers=fewer))
    more = (("before", b"1"), *outgoing.headers, ("traceparent", b"2"))
    assert DECODE(sent(outgoing, headers=more)).row.items == 3


def test_without_its_checksum_a_record_is_checked_as_that_of_a_stranger() -> None:
    (outgoing,) = records_of(prepared(), SETTINGS)
    bare = tuple(each for each in outgoing.headers if each[0] != CRC)
    read = DECODE(sent(outgoing, headers=bare, timestamp_ms=7))
    assert read.part.user_agent == FOREIGN.user_agent
    assert (read.row.items, read.row.received_ns) == (3, 7_000_000)


@pytest.mark.parametrize("encoding", Encoding)
def test_a_record_of_a_collector_is_checked_and_counted(encoding: Encoding) -> None:
    made = request(span(), span(traceId="0" * 32))
    is_json = encoding is Encoding.JSON
    read = foreign(to_body(made) if is_json else protobuf_twin(made).SerializeToString(), encoding)
    assert read.part.user_agent == FOREIGN.user_agent
    assert read.row.items == 1
    assert [each.reason for each in read.rejected] == ["trace_id_zero"]
    assert read.part.services == ("shop",)
    assert len(read.trace_ids) == 16


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"not otlp", "protobuf"),
        (b'{"resourceSpans":[]}', "another kind"),
        (protobuf_twin(request(span(traceId="0" * 32))).SerializeToString(), "all "),
        (b"", "nothing"),
        (None, "nothing"),
    ],
)
def test_what_is_no_otlp_is_told_with_what_there_was(value: bytes | None, words: str) -> None:
    with pytest.raises(NotOtlp, match=words):
        foreign(value)


def test_what_process_drops_or_redacts_is_so_in_a_record_of_a_collector_too() -> None:
    steps = BeforeKept(
        ProcessConfig(drop='name == "health"', redact=RedactConfig(keys=("password",)))
    )
    settings = PrepareSettings(configured={"env": "prod"})
    decode = Decoder(SETTINGS, PrepareForeign(lambda: (settings, steps)))
    secret = [text_attribute("password", "hunter2")]
    kept, dropped, broken = (
        span(attributes=secret),
        span(name="health"),
        span(traceId="0" * 32, attributes=secret),
    )

    def read(*spans: dict[str, object]) -> Incoming:
        value = protobuf_twin(request(*spans)).SerializeToString()
        return decode(Record(SETTINGS.rows_topic(Signal.TRACES, Encoding.PROTOBUF), 2, 0, value))

    found = read(kept, dropped, broken)
    assert found.row.items == 1
    assert [each.reason for each in found.rejected] == ["trace_id_zero"]
    assert b"hunter2" not in found.row.body + found.rejected[0].body
    assert b"prod" in found.row.body
    assert found.processed == {"drop": 1, "redact": 1}
    with pytest.raises(NotOtlp) as told:
        read(dropped)
    assert told.value.rejected == ()
    assert told.value.processed == {"drop": 1}
    with pytest.raises(NotOtlp) as told:
        read(broken)
    assert b"hunter2" not in told.value.rejected[0].body


def test_a_large_record_of_a_collector_stays_one_row() -> None:
    made = request(*(span(name="x" * 1000) for _ in range(1200)))
    read = foreign(protobuf_twin(made).SerializeToString())
    assert read.row.items == 1200
    message = ExportTraceServiceRequest.FromString(read.row.body)
    assert sum(len(s.spans) for r in message.resource_spans for s in r.scope_spans) == 1200


def test_topics_of_logs_and_metrics_are_named_after_that_of_spans() -> None:
    assert list(SETTINGS.rows_topics) == [
        *("otlp_spans_json", "otlp_spans", "otlp_logs_json", "otlp_logs"),
        *("otlp_metrics_json", "otlp_metrics"),
    ]
    assert topic_of("traces", Signal.LOGS, Encoding.PROTOBUF) == "traces_logs"
    assert topic_of("t.json", Signal.METRICS, Encoding.JSON) == "t.json_metrics"


def test_a_group_is_named_after_fleet_and_destination() -> None:
    assert SETTINGS.group(BacklogName("axiom")) == "otlp-relay.prod.axiom"
    assert SETTINGS.group(BacklogName("axiom", Signal.LOGS)) == "otlp-relay.prod.axiom.logs"


def test_two_relays_on_one_host_have_two_ids_that_stay(tmp_path: Path) -> None:
    fleet = FleetConfig(brokers=("k1:9092",))
    one, other = tmp_path / "one", tmp_path / "other"
    first = KafkaSettings.of(fleet, one).relay_id
    assert first == KafkaSettings.of(fleet, one).relay_id
    assert first != KafkaSettings.of(fleet, other).relay_id


def test_a_piece_of_each_signal_goes_to_its_topic() -> None:
    for topic, (signal, encoding) in SETTINGS.rows_topics.items():
        piece = Piece(encoding, b"{}", 1, b"", signal=signal)
        (outgoing,) = records_of(Request((piece,), SENDER, NOW_NS), SETTINGS)
        assert outgoing.topic == topic
