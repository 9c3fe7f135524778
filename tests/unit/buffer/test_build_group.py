"""What a transaction writes of its requests: rows, where each request stands in them, and sums."""

from dataclasses import replace

import pytest

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.rows import (
    ROW_OVERHEAD_BYTES,
    build_group,
    checksum,
    read_parts,
    read_row,
    rejected_letters,
)
from relay.buffer.sqlite.types import DamagedRow, Totals
from relay.model.reasons import Reason
from relay.model.records import (
    BodyFlag,
    Encoding,
    OwedRange,
    Piece,
    Position,
    RejectedItem,
    Signal,
    StoredRow,
)
from tests.unit.buffer.making import NOW_NS, noise, piece, rejected_span, request

SETTINGS = BufferSettings()


def test_each_part_says_where_its_request_begins() -> None:
    bodies = [b'{"a":1}', b'{"bb":2}', b'{"ccc":3}']
    for encoding, comma in ((Encoding.JSON, b","), (Encoding.PROTOBUF, b"")):
        asked = [request(piece(body, encoding=encoding)) for body in bodies]
        group = build_group(asked, after_row=7, totals=Totals(), settings=SETTINGS)

        (columns,) = group.rows
        assert group.stored[0].body == comma.join(bodies)
        offsets = [part.offset for part in read_parts(columns.parts)]
        assert offsets == [columns.raw_bytes - len(comma.join(bodies[at:])) for at in range(3)]
        assert (columns.id, columns.raw_bytes) == (8, len(comma.join(bodies)))


def test_sums_go_on_from_row_to_row_and_are_kept_by_signal() -> None:
    asked = [
        request(piece(b'{"a":1}', spans=2)),
        request(piece(b'{"b":1}', spans=3, signal=Signal.LOGS)),
        request(piece(b"x" * 9, spans=4, encoding=Encoding.PROTOBUF)),
    ]
    group = build_group(asked, after_row=0, totals=Totals(10, 20, 30), settings=SETTINGS)

    before = [(each.rows_before, each.items_before, each.bytes_before) for each in group.rows]
    assert before == [(10, 20, 30), (11, 22, 37), (12, 26, 46)]
    assert group.totals == Totals(13, 29, 53)
    assert group.sums == {Signal.TRACES: Totals(2, 6, 16), Signal.LOGS: Totals(1, 3, 7)}
    assert [row for row, _ids in group.traces] == [1, 2, 3]


@pytest.mark.parametrize(("row_bytes", "rows"), [(15, 1), (14, 2), (1, 2)])
def test_row_is_whole_requests_up_to_its_size(row_bytes: int, rows: int) -> None:
    asked = [request(piece(b'{"a":1}')), request(piece(b'{"b":1}'))]
    settings = replace(SETTINGS, row_bytes=row_bytes)

    assert len(build_group(asked, after_row=0, totals=Totals(), settings=settings).rows) == rows


def test_dead_letters_of_ingest_say_what_was_answered() -> None:
    body = RejectedItem(Reason.BODY_UNREADABLE, "", "no JSON", Encoding.JSON, b"[", 0)
    group = build_group(
        [request(rejected=(rejected_span("ab" * 16), body))],
        after_row=0,
        totals=Totals(),
        settings=SETTINGS,
    )

    span, whole = group.letters
    assert (span.status, span.items, span.affected, span.trace_ids) == (0, 1, 1, b"\xab" * 16)
    assert (whole.status, whole.items, whole.words, whole.trace_ids) == (400, 0, "no JSON", b"")
    assert {letter.received_ns for letter in group.letters} == {NOW_NS}
    assert group.need_bytes > len(span.body) + len(whole.body)


def test_room_that_rows_need_is_no_less_than_what_is_written_of_them() -> None:
    names = [noise(100, seed).hex() for seed in range(100)]  # more than the bodies are
    ids = bytes(16 * 20)
    pieces = [Piece(Encoding.JSON, b"{}", 1, ids, (name,)) for name in names]
    group = build_group(
        map(request, pieces),
        after_row=0,
        totals=Totals(),
        settings=replace(SETTINGS, row_bytes=100),
    )

    assert len(group.rows) > 1
    written = sum(len(each.body) + len(each.parts) for each in group.rows)
    written += sum(len(trace_ids) for _row, trace_ids in group.traces)
    assert written <= group.need_bytes < 3 * written


def test_row_with_any_column_changed_is_damaged() -> None:
    group = build_group([request(piece())], after_row=0, totals=Totals(), settings=SETTINGS)
    (columns,) = group.rows

    assert read_row(columns) == group.stored[0]
    assert checksum(columns) == columns.checksum
    for name in ("received_ns", "monotonic_ns", "items", "rows_before", "items_before"):
        changed = columns._replace(**{name: getattr(columns, name) + 1})
        assert isinstance(read_row(changed), DamagedRow)
    assert isinstance(read_row(columns._replace(parts=b"")), DamagedRow)
    assert isinstance(group.stored[0], StoredRow)


def test_rows_of_one_signal_stand_together_however_requests_came() -> None:
    asked = [request(piece(signal=each)) for each in (Signal.LOGS, Signal.TRACES, Signal.LOGS)]
    settings = replace(SETTINGS, row_bytes=1)
    group = build_group(asked, after_row=0, totals=Totals(), settings=settings)
    assert [each.signal for each in group.stored] == [Signal.TRACES, Signal.LOGS, Signal.LOGS]


def test_letters_need_room_for_their_bodies_and_a_row_each() -> None:
    refused = [rejected_span(body=bytes(1000)), rejected_span(body=bytes(500))]
    asked = [request(rejected=tuple(refused))]
    group = build_group(asked, after_row=0, totals=Totals(), settings=SETTINGS)
    assert group.need_bytes == 1500 + 2 * ROW_OVERHEAD_BYTES


@pytest.mark.parametrize(
    ("trace_id", "packed"),
    [("ab" * 16, b"\xab" * 16), ("ab" * 15, b""), ("ab" * 17, b""), ("no" * 16, b"")],
)
def test_trace_id_that_is_none_is_kept_in_words_alone(trace_id: str, packed: bytes) -> None:
    (letter,) = rejected_letters(request(rejected=(rejected_span(trace_id),)))
    assert (letter.words, letter.trace_ids) == (trace_id, packed)


def test_columns_that_were_hit_are_told_as_far_as_they_can_be_true() -> None:
    (columns,) = build_group(
        [request(piece(b'{"a":1}', spans=2))], after_row=6, totals=Totals(), settings=SETTINGS
    ).rows

    def damaged(**changes: object) -> DamagedRow:
        found = read_row(columns._replace(**changes))  # type: ignore[arg-type]
        assert isinstance(found, DamagedRow)
        return found

    usual = damaged(checksum=1)
    assert (usual.row, usual.received_ns, usual.items) == (7, NOW_NS, 2)
    assert (usual.body, usual.words) == (b'{"a":1}', "the checksum of this row is wrong")
    assert (usual.encoding, usual.signal) == (Encoding.JSON, Signal.TRACES)
    assert damaged(items=10**9).items == 10_000_000
    assert damaged(items=-1).items == damaged(items="2").items == 0
    assert damaged(received_ns=0).received_ns == 0
    assert damaged(encoding=int(Encoding.PROTOBUF)).encoding is Encoding.PROTOBUF
    assert damaged(encoding=99).encoding is Encoding.JSON
    assert damaged(signal=int(Signal.LOGS)).signal is Signal.LOGS
    assert damaged(signal=99).signal is Signal.TRACES
    every = BodyFlag.SPECIAL_DOUBLES | BodyFlag.DEEP | BodyFlag.RELAYED
    assert damaged(flags=int(every)).flags == BodyFlag.SPECIAL_DOUBLES | BodyFlag.DEEP
    as_found = damaged(body=columns.body + b"!")
    assert as_found.body == columns.body + b"!"
    assert as_found.words.endswith("; the bytes kept are its zstd frame as found")
    assert damaged(body=None).body == b""


def test_piece_without_a_body_takes_no_other_with_it() -> None:
    asked = [request(piece(b""), piece(b"one")), request(piece(b""))]
    group = build_group(asked, after_row=4, totals=Totals(), settings=SETTINGS)
    assert [each.body for each in group.stored] == [b"one"]
    assert group.range == OwedRange(Position(5), Position(6))
