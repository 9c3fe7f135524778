"""Requests cut at every limit there may be: no piece is larger, and nothing is lost."""

import json
from typing import Any

import pytest

from relay.model.records import Encoding, Piece
from relay.otlp.signals import LOGS, METRICS, TRACES, SignalWire
from relay.otlp.transcode import to_json
from relay.process.prepare import Prepare, PrepareSettings
from tests.support import builders

ITEMS: dict[str, list[builders.Json]] = {
    "spans": [builders.span(name="s" * number) for number in range(4)],
    "logRecords": [
        {"timeUnixNano": builders.START, "severityText": "s" * number} for number in range(4)
    ],
    "metrics": [
        {
            "name": "m" * number,
            "gauge": {"dataPoints": [{"timeUnixNano": builders.START, "asInt": "1"}] * 2},
        }
        for number in (1, 2)
    ],
}


def made(wire: SignalWire) -> builders.Json:
    """Two resources with two scopes each."""
    entries, scopes, records = wire.lists[Encoding.JSON]
    resource = {"attributes": [builders.text_attribute("service.name", "shop")]}
    scope = {"scope": {"name": "lib"}, "schemaUrl": "u", records: ITEMS[records]}
    return {entries: [{"resource": resource, scopes: [scope] * 2}] * 2}


@pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
@pytest.mark.parametrize("wire", [TRACES, LOGS, METRICS], ids=["traces", "logs", "metrics"])
def test_no_piece_is_larger_than_the_limit_whatever_that_is(
    wire: SignalWire, encoding: Encoding
) -> None:
    sent = made(wire)
    body = builders.to_body(sent)
    if encoding is Encoding.PROTOBUF:
        body = builders.protobuf_twin(sent, wire.request).SerializeToString()

    prepare = Prepare(PrepareSettings())
    request: Any = prepare.check(body, encoding, signal=wire.signal).request

    def cut(limit_bytes: int) -> tuple[Piece, ...]:
        pieces: tuple[Piece, ...] = request.pieces(limit_bytes)
        assert sum(piece.items for piece in pieces) == 16
        return pieces

    (whole,) = cut(2**40)
    size = len(whole.body)
    numbers = set()
    # Below twice of the least, what is repeated around items is given more room.
    for limit_bytes in range(2 * max(len(piece.body) for piece in cut(1)), size):
        pieces = cut(limit_bytes)
        assert max(len(piece.body) for piece in pieces) <= limit_bytes
        numbers.add(len(pieces))
    assert {2, 3} <= numbers
    assert [len(piece.body) for piece in cut(size)] == [size]


@pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
def test_each_piece_tells_the_traces_and_services_of_its_own_items(encoding: Encoding) -> None:
    ids = [f"{number:032x}" for number in range(1, 9)]
    entries = [
        builders.request(
            *[builders.span(traceId=each) for each in ids[4 * half : 4 * half + 4]], service=service
        )["resourceSpans"][0]
        for half, service in enumerate(("", "shop"))
    ]
    sent = {"resourceSpans": entries}
    body = builders.to_body(sent)
    if encoding is Encoding.PROTOBUF:
        body = builders.protobuf_twin(sent).SerializeToString()
    request: Any = Prepare(PrepareSettings()).check(body, encoding).request
    (whole,) = request.pieces(2**40)
    pieces = request.pieces(len(whole.body) // 2)

    assert (whole.trace_ids.hex(), whole.services) == ("".join(ids), ("shop",))
    assert len(pieces) > 2
    assert "".join(piece.trace_ids.hex() for piece in pieces) == "".join(ids)
    assert [len(piece.trace_ids) // 16 for piece in pieces] == [piece.items for piece in pieces]
    assert (pieces[0].services, pieces[-1].services) == ((), ("shop",))


@pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
@pytest.mark.parametrize("wire", [TRACES, LOGS, METRICS], ids=["traces", "logs", "metrics"])
def test_what_holds_no_item_is_left_out_beside_what_does(
    wire: SignalWire, encoding: Encoding
) -> None:
    sent = made(wire)
    entries, scopes, records = wire.lists[Encoding.JSON]
    full = sent[entries][0]
    sent[entries] = [{**full, scopes: []}, {**full, scopes: [{records: []}, *full[scopes]]}, full]
    body = builders.to_body(sent)
    if encoding is Encoding.PROTOBUF:
        body = builders.protobuf_twin(sent, wire.request).SerializeToString()
    request: Any = Prepare(PrepareSettings()).check(body, encoding, signal=wire.signal).request
    wanted: Any = Prepare(PrepareSettings()).check(
        builders.to_body({entries: [full, full]}), Encoding.JSON, signal=wire.signal
    )
    (piece,) = request.pieces(2**40)
    (whole,) = wanted.request.pieces(2**40)

    text = piece.body if encoding is Encoding.JSON else to_json(piece.body, wire.signal)
    assert json.loads(b"[%b]" % text) == json.loads(b"[%b]" % whole.body)
    assert piece.items == whole.items
