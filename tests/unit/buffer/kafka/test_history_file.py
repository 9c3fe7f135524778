"""The index of a fleet's records: bounded, found by trace, begun anew where it is damaged."""

from pathlib import Path

import apsw

from relay.buffer.kafka.history_file import HistoryFile, Seen, delivered_entries
from relay.buffer.kafka.history_text import deliveries_of, values_of
from relay.buffer.kafka.places import INDEXED, row_of
from relay.buffer.sqlite.rows import Part
from relay.model.records import Encoding, OwedRange, Position, Signal
from tests.unit.buffer.making import trace_id

LAST = 1 << 60


def seen(offset: int, *traces: int, partition: int = 0, padding: int = 0) -> Seen:
    """A record of that offset."""
    place = row_of(Signal.TRACES, Encoding.JSON, partition, offset)
    agent = "x" * padding
    part = Part(0, 2, offset + 1, len(traces), "192.0.2.7", False, agent, ("shop",))
    ids = b"".join(map(trace_id, traces))
    return Seen(place, Signal.TRACES, Encoding.JSON, 100, part, ids)


def opened(folder: Path, most_bytes: int = 1 << 30) -> HistoryFile:
    """Open."""
    file = HistoryFile(folder / "h.db", most_bytes)
    file.open()
    return file


def test_records_are_numbered_as_they_come_and_found_by_trace(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.add([seen(0, 1, 2), seen(5, 2, partition=3)], [], {("t", 0): 1})
    file.close()
    file = opened(tmp_path)
    assert file.last_number == INDEXED + 2
    assert file.read_to() == {("t", 0): 1}
    wanted = frozenset([trace_id(1), trace_id(2)])
    assert sorted(file.holding(wanted, 1, LAST)) == [
        (trace_id(1), INDEXED + 1),
        (trace_id(2), INDEXED + 1),
        (trace_id(2), INDEXED + 2),
    ]
    assert file.holding(frozenset([trace_id(2)]), INDEXED + 2, LAST) == [(trace_id(2), INDEXED + 2)]
    assert file.extent(Signal.TRACES, 1, LAST) == (2, 4, 1)
    assert [each.seen for each in file.after(0, 9)] == [seen(0, 1, 2), seen(5, 2, partition=3)]


def test_what_the_brokers_deleted_is_forgotten_and_the_oldest_where_it_is_too_large(
    tmp_path: Path,
) -> None:
    file = opened(tmp_path, most_bytes=300_000)
    file.add([seen(at, at) for at in range(10)], [], {})
    low = row_of(Signal.TRACES, Encoding.JSON, 0, 4)
    file.forget_before({low >> 40: low})
    assert file.extent(Signal.TRACES, 1, LAST)[0] == 6
    assert file.first_number == INDEXED + 5
    file.add([seen(at, at, padding=1000) for at in range(10, 1000)], [], {})
    for _ in range(30):
        file.forget_before({})
    rows, _, oldest = file.extent(Signal.TRACES, 1, LAST)
    assert 50 < rows < 300
    assert oldest == 1000 - rows + 1


def test_a_delivery_of_many_rows_is_found_for_each_of_them(tmp_path: Path) -> None:
    file = opened(tmp_path)
    first = row_of(Signal.TRACES, Encoding.JSON, 0, 0)
    whole = OwedRange(Position(first), Position(first + 5000))
    entries = delivered_entries("a", [whole], 77, 200)
    (value,) = values_of(entries)
    assert deliveries_of(value) == entries
    assert deliveries_of(b"nonsense") == []
    file.add([seen(0, 1)], deliveries_of(value), {})
    for row in (first, first + 999, first + 1000, first + 4999):
        assert [(each.at_ns, each.status) for each in file.deliveries([row])] == [(77, 200)]
    assert file.deliveries([first + 5001]) == []


def test_a_damaged_index_is_begun_anew(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.add([seen(at, at) for at in range(2000)], [], {})
    file.close()
    path = tmp_path / "h.db"
    path.write_bytes(path.read_bytes()[:8192] + b"\xff" * 400_000)
    file = opened(tmp_path)
    assert file.extent(Signal.TRACES, 1, LAST) == (0, 0, 0)
    file.discard_if(OSError())
    file.add([seen(0, 1)], [], {})
    file.discard_if(apsw.CorruptError())
    file.open()
    assert file.extent(Signal.TRACES, 1, LAST) == (0, 0, 0)
