"""Check, export and snapshot of a file that holds several signals."""

import json
from pathlib import Path

import apsw
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.model.errors import RelayError
from relay.model.records import Signal
from relay.offline.check import check
from relay.offline.export import lines
from relay.offline.file import open_buffer
from relay.offline.snapshot import snapshot
from tests.unit.buffer.making import deliver_all, eventually, opened, piece, request, take_all

pytestmark = pytest.mark.anyio

TRACES, LOGS, METRICS = Signal


def ignore(_done: int, _all: int) -> None:
    pass


async def fill(state_dir: Path, *, keep_seconds: float = 3600.0) -> None:
    """Rows of spans, log records and points in turn; the logs are delivered, points unclaimed."""
    async with opened(state_dir, keep_delivered_seconds=keep_seconds) as buffer:
        logs = buffer.consumer("a", signal=LOGS)
        buffer.consumer("a")
        for number in range(5):
            for signal in Signal:
                body = b'{"n":"%d of %s"}' % (number, signal.name.encode())
                await buffer.append(request(piece(body, signal=signal)))
        await deliver_all(logs)
        if keep_seconds == 0:
            await eventually(lambda: buffer.statistics().rows == 10)


@pytest.mark.parametrize("keep_seconds", [0.0, 3600.0])
async def test_check_tells_what_each_signal_is_owed_and_misses_nothing(
    tmp_path: Path, keep_seconds: float
) -> None:
    await fill(tmp_path, keep_seconds=keep_seconds)
    found = check(tmp_path, ignore)
    assert found.is_sound, found
    assert [(each.name, each.signal, each.rows) for each in found.destinations] == [
        ("a", "traces", 5),
        ("a", "logs", 0),
    ]


async def test_check_finds_rows_missing_of_each_signal(tmp_path: Path) -> None:
    await fill(tmp_path)
    with apsw.Connection(str(tmp_path / "relay.db")) as connection:
        connection.execute("DELETE FROM rows WHERE id IN (4, 5, 6)")
    connection.close()
    found = check(tmp_path, ignore)
    assert found.missing_rows == [(4, 4), (6, 6)], "the log record in between was delivered"


async def test_check_finds_a_run_that_is_missing(tmp_path: Path) -> None:
    await fill(tmp_path)
    with apsw.Connection(str(tmp_path / "relay.db")) as connection:
        connection.execute("DELETE FROM signal_runs WHERE first_row = 5")
    connection.close()
    found = check(tmp_path, ignore)
    assert not found.is_sound
    assert any("signal_runs" in words for words in found.structure)


def exported(state_dir: Path, **what: object) -> list[str]:
    with open_buffer(state_dir) as file:
        found = [json.loads(line) for line in lines(file, **what)]  # type: ignore[arg-type]
    return [f"{key}: {entry['n']}" for line in found for key, (entry,) in line.items()]


async def test_an_export_is_of_all_signals_or_of_one(tmp_path: Path) -> None:
    await fill(tmp_path)
    everything = exported(tmp_path)
    assert everything[:3] == [
        "resourceSpans: 0 of TRACES",
        "resourceLogs: 0 of LOGS",
        "resourceMetrics: 0 of METRICS",
    ]
    assert len(everything) == 15
    assert exported(tmp_path, signal=LOGS) == everything[1::3]
    assert exported(tmp_path, destination="a") == everything[::3], "its logs are delivered"
    with pytest.raises(RelayError, match="nothing is owed to 'b'"):
        exported(tmp_path, destination="b")


@pytest.mark.parametrize("keep_seconds", [0.0, 3600.0])
async def test_a_snapshot_owes_what_the_file_owed(tmp_path: Path, keep_seconds: float) -> None:
    await fill(tmp_path / "one", keep_seconds=keep_seconds)
    (tmp_path / "two").mkdir(mode=0o700)
    snapshot(tmp_path / "one", tmp_path / "two" / "relay.db", ignore)
    async with opened(tmp_path / "two") as buffer:
        assert set(buffer.consumers()) == {BacklogName("a", TRACES), BacklogName("a", LOGS)}
        assert len(await take_all(buffer.consumer("a"))) == 5
        assert not buffer.consumer("a", signal=LOGS).has_more
        assert len(await take_all(buffer.consumer("b", signal=METRICS))) == 5
        await buffer.append(request(piece(signal=LOGS)))
        assert len(await take_all(buffer.consumer("a", signal=LOGS))) == 1
