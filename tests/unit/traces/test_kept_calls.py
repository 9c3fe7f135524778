"""Looking through what is kept for calls: newest first, bounded, and it says how far it came."""

import json
from pathlib import Path

import pytest

from relay.buffer.sqlite.buffer import Buffer
from relay.model.records import StoredRow
from relay.traces import kept_calls
from relay.traces.kept_calls import Asked, Kept, KeptCalls, answer_of
from tests.unit.buffer.making import NOW_NS, opened, piece, request
from tests.unit.genai.making import fixture_rows

pytestmark = pytest.mark.anyio


async def keep(buffer: Buffer, row: StoredRow, *, seconds: int = 0) -> None:
    made = piece(row.body, spans=row.items, signal=row.signal)
    await buffer.append(request(made, received_ns=NOW_NS + seconds * 10**9))


async def test_nothing_kept_is_nothing_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        found = await KeptCalls(buffer).answer(Asked())

    assert (found["calls"], found["groups"]) == (0, [])
    assert found["looked"] == {
        "rows": 0,
        "items": 0,
        "back_to": None,
        "is_complete": True,
        "ended": "",
    }


async def test_only_what_was_received_since_is_looked_at(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for number, name in enumerate(("70_claude", "08_", "78_")):
            for _each in range(20):  # more than are read at once
                await keep(buffer, fixture_rows(name)[0], seconds=number)
        calls = KeptCalls(buffer)
        since = {
            seconds: await calls.answer(Asked(since_ns=NOW_NS + seconds * 10**9))
            for seconds in (0, 1, 2, 3)
        }

    assert [found["calls"] for found in since.values()] == [7, 4, 3, 0]
    assert [found["looked"]["rows"] for found in since.values()] == [60, 40, 20, 0]
    assert since[1]["looked"]["back_to"] == "2026-01-01T00:00:01.000Z"
    assert all(found["looked"]["is_complete"] for found in since.values())


async def test_older_answer_is_given_again_to_those_whom_it_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer, fixture_rows("08_")[0])
        calls = KeptCalls(buffer)
        anew = await calls.answer(Asked())
        first = await calls.answer(Asked(), most_seconds_old=60)
        again = await calls.answer(Asked(), most_seconds_old=60)
        assert again is first  # nothing has come since
        assert ("as_of" in anew, "as_of" in first) == (False, True)

        await keep(buffer, fixture_rows("08_")[0])
        monkeypatch.setattr(kept_calls, "_DEAR_TIMES", 1e9)
        saved = await calls.answer(Asked(), most_seconds_old=60)
        other = await calls.answer(Asked(by="user"), most_seconds_old=60)
        monkeypatch.setattr(kept_calls, "_DEAR_TIMES", 0)
        newest = await calls.answer(Asked(), most_seconds_old=60)

    assert saved is first  # a new one would cost too much, so soon
    assert (saved["looked"]["rows"], other["looked"]["rows"], newest["looked"]["rows"]) == (1, 2, 2)


async def test_few_answers_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        calls = KeptCalls(buffer)
        first = await calls.answer(Asked(since_ns=1), most_seconds_old=60)
        for since_ns in range(2, 10):
            await calls.answer(Asked(since_ns=since_ns), most_seconds_old=60)
        assert await calls.answer(Asked(since_ns=9), most_seconds_old=60) is not first
        assert await calls.answer(Asked(since_ns=1), most_seconds_old=60) is not first


async def test_it_ends_in_time_and_says_how_far_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as buffer:
        for seconds in range(40):
            await keep(buffer, fixture_rows("08_")[0], seconds=seconds)
        calls = KeptCalls(buffer)
        in_no_time = await calls.answer(Asked(seconds=0))
        monkeypatch.setattr(kept_calls, "MOST_STEPS_IN_USE", 4)
        few_steps = await calls.answer(Asked())
        monkeypatch.setattr(kept_calls, "MOST_STEPS_IN_USE", 1000)
        monkeypatch.setattr(kept_calls, "MOST_BYTES", 1)
        few_bytes = await calls.answer(Asked())

    assert in_no_time["looked"]["ended"] == "time"
    assert few_steps["looked"]["ended"] == "4 steps"
    assert few_bytes["looked"]["ended"] == "size"
    for found in (in_no_time, few_bytes):
        assert found["looked"]["rows"] == 4  # one step is made in any case
        assert found["looked"]["back_to"] == "2026-01-01T00:00:36.000Z"
        assert not found["looked"]["is_complete"]


async def test_session_is_found_and_another_is_told_with_how_far_was_looked(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer, fixture_rows("08_")[0])
        calls = KeptCalls(buffer)
        found = await calls.answer(Asked(session="sess-4"))
        other = await calls.answer(Asked(session="sess-5"))

    assert [entry["kind"] for entry in found["entries"]] == ["call"]
    assert set(other) == {"looked", "since"}


async def test_damaged_row_is_passed_over() -> None:
    row = fixture_rows("08_")[0]
    broken = StoredRow(2, NOW_NS, row.encoding, row.flags, 1, row.body[:-40])

    async def read(_rows: object) -> list[StoredRow]:
        return [row, broken]

    found = await answer_of(Kept(read, 1, 2), Asked())

    assert found["calls"] == 1


async def test_rows_that_are_all_gone_do_not_keep_it_looking() -> None:
    async def read(_rows: object) -> list[StoredRow]:
        return []

    found = await answer_of(Kept(read, 1, 10**15), Asked(seconds=0))

    assert found["looked"]["ended"] == "time"


async def test_documents_are_json(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for name in ("70_claude", "71_claude", "72_claude", "73_codex", "75_gemini", "77_", "78_"):
            await keep(buffer, fixture_rows(name)[0])
        for by in ("model", "user", "tool", "session"):
            json.dumps(await KeptCalls(buffer).answer(Asked(by=by)), allow_nan=False)
