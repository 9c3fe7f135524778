"""House is kept now and then while requests keep coming, and soon after they stop."""

import itertools
import time
from pathlib import Path

import pytest

from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.housekeeping import BUSY_NS
from tests.support.relay_process import eventually
from tests.unit.buffer.making import noise, opened, piece, rejected_span, request

pytestmark = pytest.mark.anyio


def count(buffer: Buffer, monkeypatch: pytest.MonkeyPatch, name: str) -> list[float]:
    """When housekeeping does that, from now on."""
    house = buffer._writer._house
    when: list[float] = []
    original = getattr(house, name)

    def counted(*args: object, **options: object) -> object:
        when.append(time.monotonic())
        return original(*args, **options)

    monkeypatch.setattr(house, name, counted)
    return when


@pytest.mark.parametrize("name", ["step", "publish"])
async def test_house_is_not_kept_after_every_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))
        when = count(buffer, monkeypatch, name)
        for _ in range(200):
            await buffer.append(request(piece()))

    pauses = [after - before for before, after in itertools.pairwise(when)]
    assert sum(pause < BUSY_NS / 1e9 * 0.9 for pause in pauses) <= 2  # where something was found


async def test_every_commit_shows_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for number in range(1, 50):
            await buffer.append(request(piece(spans=2)))
            found = buffer.statistics()

            assert (found.rows, found.items, found.last_row) == (number, number * 2, number)


async def test_dead_letter_shows_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for number in range(1, 20):
            await buffer.append(request(piece(), rejected=(rejected_span(),)))

            assert buffer.statistics().dead_letters[""].count == number


async def test_what_was_postponed_is_done_when_nothing_more_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as buffer:
        when = count(buffer, monkeypatch, "step")
        for _ in range(20):
            await buffer.append(request(piece()))
        done = time.monotonic()

        eventually(lambda: when and when[-1] >= done, what="housekeeping")


async def test_long_wal_is_written_back_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, wal_checkpoint_bytes=64 << 10) as buffer:
        when = count(buffer, monkeypatch, "_checkpoint")
        for seed in range(20):
            await buffer.append(request(piece(noise(80 << 10, seed))))
        await buffer.flush()

    assert len(when) >= 19
