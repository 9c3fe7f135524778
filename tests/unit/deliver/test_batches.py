"""Rows in, a request body out."""

import gzip
import json
import threading
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.config import DestinationConfig
from relay.deliver import batches
from relay.deliver.learnt import Learnt
from relay.model.records import BodyFlag, Encoding, StoredRow, Taken
from relay.otlp.transcode import TranscodeError

pytestmark = pytest.mark.anyio

Settings = Callable[..., DestinationConfig]
Row = Callable[..., StoredRow]
AWAY = "https://api.axiom.example/v1/traces"


def entry(name: str, value: str = "1") -> bytes:
    span = (
        f'{{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",'
        f'"name":"{name}","attributes":[{{"key":"n","value":{{"doubleValue":{value}}}}}]}}'
    )
    return f'{{"scopeSpans":[{{"spans":[{span}]}}]}}'.encode()


async def build(rows: Sequence[StoredRow], to: DestinationConfig) -> batches.Batch:
    """The batch in the encoding that goes to a destination of which nothing was learnt."""
    learnt = Learnt(to)
    encoding = learnt.encoding_of(Taken(tuple(rows), ()))
    return await batches.build(rows, to, encoding, gzips=learnt.gzips)


def names(batch: batches.Batch) -> list[str]:
    request = ExportTraceServiceRequest.FromString(batch.content)
    return [s.name for r in request.resource_spans for c in r.scope_spans for s in c.spans]


async def test_batch_joins_json_rows_in_order_untouched(settings: Settings, row: Row) -> None:
    rows = [row(1, entry("a"), spans=2), row(2, entry("b") + b"," + entry("c"), spans=3)]

    batch = await build(rows, settings())

    assert batch.content == b'{"resourceSpans":[%b,%b,%b]}' % (entry("a"), entry("b"), entry("c"))
    assert batch.fragment == b"%b,%b,%b" % (entry("a"), entry("b"), entry("c"))
    assert (batch.encoding, batch.content_encoding) == (Encoding.JSON, "")
    assert (batch.items, batch.rows) == (5, 2)


@pytest.mark.parametrize("large", [(), (1,), (0, 1), (2,), (0, 1, 2)])
async def test_large_rows_of_a_batch_are_sent_from_where_they_are(
    settings: Settings, row: Row, large: Sequence[int]
) -> None:
    size = batches.APART_FROM_BYTES
    rows = [row(n, entry("x" * size if n in large else "x") if n < 3 else b"") for n in range(4)]

    batch = await build(rows, settings())

    whole = b"".join((batch.content, *batch.rest))
    assert whole == b'{"resourceSpans":[%b]}' % b",".join(row.body for row in rows[:3])
    assert batch.size == len(whole)
    assert [any(piece is each.body for piece in batch.rest) for each in rows[:3]] == [
        n in large for n in range(3)
    ]
    assert all(batch.rest), "what is empty would be sent as a piece"


async def test_batch_joins_protobuf_rows_into_one_message(settings: Settings, row: Row) -> None:
    made = [
        (await build([row(1, entry(name))], settings(encoding="protobuf"))).content
        for name in ("a", "b")
    ]
    rows = [row(n, body, encoding=Encoding.PROTOBUF) for n, body in enumerate(made, 1)]

    batch = await build(rows, settings())

    assert batch.encoding is Encoding.PROTOBUF
    assert batch.content == batch.fragment == made[0] + made[1]
    assert names(batch) == ["a", "b"]


async def test_batch_transcodes_only_rows_of_the_other_encoding(
    settings: Settings, row: Row
) -> None:
    as_protobuf = (await build([row(1, entry("a"))], settings(encoding="protobuf"))).content
    rows = [row(1, as_protobuf, encoding=Encoding.PROTOBUF), row(2, entry("b"))]

    into_protobuf = await build(rows, settings(encoding="protobuf"))
    into_json = await build(rows, settings(encoding="json"))

    assert names(into_protobuf) == ["a", "b"]
    assert into_protobuf.content.startswith(as_protobuf)
    spans = [r["scopeSpans"][0]["spans"][0] for r in json.loads(into_json.content)["resourceSpans"]]
    assert [span["name"] for span in spans] == ["a", "b"]
    assert into_json.content.endswith(b",%b]}" % entry("b"))


async def test_batch_leaves_out_empty_fragments_between_commas(
    settings: Settings, row: Row
) -> None:
    batch = await build([row(1, b""), row(2, entry("a")), row(3, b"")], settings())

    assert json.loads(batch.content)["resourceSpans"] == [json.loads(entry("a"))]


@pytest.mark.parametrize(("mode", "left"), [("keep", '"NaN"'), ("string", "NaN"), ("drop", "")])
async def test_batch_rewrites_special_doubles_as_the_destination_asks(
    settings: Settings, row: Row, mode: str, left: str
) -> None:
    flagged = row(1, entry("a", '"NaN"'), flags=BodyFlag.SPECIAL_DOUBLES)

    batch = await build([flagged], settings(special_doubles=mode))

    assert (b'"doubleValue":"NaN"' in batch.content) is (mode == "keep")
    assert (b'"stringValue":"NaN"' in batch.content) is (mode == "string")
    assert (b"NaN" in batch.content) is bool(left)


async def test_batch_looks_into_flagged_rows_only(settings: Settings, row: Row) -> None:
    """A row without the flag may be anything: it is not even parsed."""
    batch = await build([row(1, b"not json")], settings(special_doubles="drop"))

    assert batch.content == b'{"resourceSpans":[not json]}'


async def test_batch_rewrites_after_transcoding(settings: Settings, row: Row) -> None:
    flagged = row(1, entry("a", '"NaN"'), flags=BodyFlag.SPECIAL_DOUBLES)

    batch = await build([flagged], settings(encoding="protobuf", special_doubles="string"))

    request = ExportTraceServiceRequest.FromString(batch.content)
    value = request.resource_spans[0].scope_spans[0].spans[0].attributes[0].value
    assert value.string_value == "NaN"


async def test_batch_raises_when_a_row_cannot_be_transcoded(settings: Settings, row: Row) -> None:
    with pytest.raises(TranscodeError):
        await build([row(1, b'{"nonsense":1}')], settings(encoding="protobuf"))


@pytest.mark.parametrize(
    ("endpoint", "compression_setting", "is_gzipped"),
    [
        ("http://127.0.0.1:4319/v1/traces", "auto", False),
        ("http://localhost:4319/v1/traces", "auto", False),
        (AWAY, "auto", True),
        (AWAY, "none", False),
        ("http://127.0.0.1:4319/v1/traces", "gzip", True),
    ],
)
async def test_batch_is_compressed_as_set_and_not_to_this_machine(
    settings: Settings, row: Row, endpoint: str, compression_setting: str, is_gzipped: bool
) -> None:
    body = entry("a" * 2000)

    batch = await build([row(1, body)], settings(endpoint, compression=compression_setting))

    plain = b'{"resourceSpans":[%b]}' % body
    assert batch.content_encoding == ("gzip" if is_gzipped else "")
    assert (gzip.decompress(batch.content) if is_gzipped else batch.content) == plain
    assert batch.fragment == body


async def test_batch_of_a_few_bytes_is_not_worth_compressing(settings: Settings, row: Row) -> None:
    small = [row(1, b'{"a":1}')]

    assert (await build(small, settings(AWAY))).content_encoding == ""
    assert (await build(small, settings(AWAY, compression="gzip"))).content_encoding
    for body in range(batches.GZIP_FROM_BYTES - 1, batches.GZIP_FROM_BYTES + 1):
        plain = b'{"a":"%b"}' % (b"x" * (body - len(b'{"resourceSpans":[{"a":""}]}')))
        batch = await build([row(1, plain)], settings(AWAY))
        assert (batch.content_encoding == "gzip") is (body >= batches.GZIP_FROM_BYTES)


@pytest.mark.parametrize(("size", "is_elsewhere"), [(2_000, False), (200_000, True)])
async def test_batch_does_long_work_in_a_thread(
    settings: Settings, row: Row, monkeypatch: pytest.MonkeyPatch, size: int, is_elsewhere: bool
) -> None:
    threads: list[threading.Thread] = []

    def compress(body: bytes) -> bytes:
        threads.append(threading.current_thread())
        return body

    monkeypatch.setattr("relay.deliver.batches.gzip_level_1", compress)

    await build([row(1, b"x" * size)], settings(AWAY))

    assert [thread is not threading.main_thread() for thread in threads] == [is_elsewhere]


async def test_batch_is_built_in_the_encoding_asked_for(settings: Settings, row: Row) -> None:
    batch = await batches.build([row(1, entry("a"))], settings(), Encoding.PROTOBUF, gzips=False)

    assert (batch.encoding, names(batch)) == (Encoding.PROTOBUF, ["a"])
