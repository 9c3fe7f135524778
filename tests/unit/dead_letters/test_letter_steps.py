"""The steps in which dead letters are sent again, dropped and exported, over a real buffer."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest

from relay.buffer.sqlite import dead_letter_transactions
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.values import DeadLetterFilter
from relay.config import DestinationConfig
from relay.dead_letters import look
from relay.dead_letters.change import DeadLetters, Replayed, ReplayRefused
from relay.dead_letters.look import UnknownDeadLetter
from relay.dead_letters.redactions import Redactions
from relay.dead_letters.requests import LeftOut
from relay.model.errors import BufferFull
from relay.model.records import DeadLetter, Encoding, Signal
from relay.otlp.transcode import to_protobuf
from relay.process.prepare import PrepareSettings
from tests.support.builders import nested, request, span, text_attribute, to_body
from tests.unit.buffer.making import deliver_all, eventually, noise, opened, piece, take_all
from tests.unit.buffer.making import request as kept

pytestmark = pytest.mark.anyio
ALL = DeadLetterFilter()
CONFIGURED = [DestinationConfig(name="a", endpoint="http://127.0.0.1:1/v1/traces")]


def prepare_settings() -> PrepareSettings:
    return PrepareSettings(detected={"host.name": "here"}, configured={"env": "test"})


@asynccontextmanager
async def letters_of(
    tmp_path: Path, *bodies: bytes, encoding: Encoding = Encoding.JSON, **settings: Any
) -> AsyncIterator[tuple[Buffer, DeadLetters]]:
    """A buffer with a destination `a` and a dead letter of it for each body."""
    async with opened(tmp_path, **settings) as buffer:
        await add(buffer, *bodies, encoding=encoding)
        yield (
            buffer,
            DeadLetters(
                buffer,
                prepare_settings,
                lambda: dict.fromkeys("ab", tuple(Signal)),
                tmp_path,
                Redactions(lambda: CONFIGURED),
            ),
        )


def put(buffer: Buffer, letter: DeadLetter) -> None:
    buffer.consumer("a").changed((), [letter])


async def add(buffer: Buffer, *bodies: bytes, encoding: Encoding = Encoding.JSON) -> None:
    buffer.consumer("a")
    buffer.consumer("b")
    for body in bodies:
        letter = DeadLetter("a", "upstream_refused", "no", 1, encoding, body, affected=1)
        put(buffer, letter)
    await buffer.flush()


def fragment(**members: Any) -> bytes:
    return to_body(request(span(**members)))[len(b'{"resourceSpans":[') : -2]


async def replay(letters: DeadLetters, wanted: DeadLetterFilter = ALL, **named: Any) -> Replayed:
    options: dict[str, Any] = {"after": 0, "to": "", "derives": False, "keeps": False} | named
    return await letters.replay(wanted, **options)


async def test_each_step_says_where_to_go_on_and_leaves_out_what_came_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "STEP_LETTERS", 2)
    bodies = [fragment(name=f"{n}") for n in range(5)]
    async with letters_of(tmp_path, *bodies) as (buffer, letters):
        sent: list[int] = []
        after: int | None = 0
        until: int | None = None
        while after is not None:
            step = await replay(letters, DeadLetterFilter(until=until), after=after)
            after, until = step.next, step.until
            sent.append(step.letters)
            await add(buffer, fragment(name="refused again"))

        assert sent == [2, 2, 1]
        assert len(await buffer.dead_letters.newest()) == 3
        assert await take_all(buffer.consumer("a")) == [
            b",".join(bodies[:2]),
            b",".join(bodies[2:4]),
            bodies[4],
        ]
        assert await take_all(buffer.consumer("b")) == []


async def test_a_step_takes_about_so_many_bytes_and_one_letter_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "STEP_BYTES", 1000)
    large = fragment(attributes=[text_attribute("k", "x" * 900)])
    async with letters_of(tmp_path, large, large) as (_buffer, letters):
        step = await replay(letters)
        assert (step.letters, step.next) == (1, 1)


async def test_replay_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    body = fragment(attributes=[text_attribute("k", noise(45_000).hex())])
    async with letters_of(tmp_path, body, body, max_size_bytes=1 << 20) as (buffer, letters):
        with contextlib.suppress(BufferFull):
            for _ in range(60):  # nothing here is delivered, so nothing can give way
                await buffer.append(kept(piece(noise(20_000))))
        owed = buffer.consumer("a").statistics().owed_rows
        with pytest.raises(BufferFull):
            await replay(letters)

        assert owed < 60
        assert len(await buffer.dead_letters.newest()) == 2
        assert buffer.consumer("a").statistics().owed_rows == owed


async def test_replay_to_nobody_known_is_refused(tmp_path: Path) -> None:
    async with letters_of(tmp_path, fragment()) as (buffer, letters):
        with pytest.raises(ReplayRefused, match="no destination 'c'"):
            await replay(letters, to="c")
        assert len(await buffer.dead_letters.newest()) == 1


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_what_is_owed_again_is_byte_for_byte_what_was_set_aside(
    tmp_path: Path, encoding: Encoding
) -> None:
    deep = {"key": "deep", "value": nested(60)}
    special = {"key": "nan", "value": {"doubleValue": "NaN"}}
    body = fragment(attributes=[deep, special], links=[{"traceId": "a" * 32, "spanId": "b" * 16}])
    if encoding is Encoding.PROTOBUF:
        body = to_protobuf(body, Signal.TRACES)
    async with letters_of(tmp_path, body, encoding=encoding) as (buffer, letters):
        assert (await replay(letters)).letters == 1
        assert await take_all(buffer.consumer("a")) == [body]


async def test_letter_that_is_no_request_stays_and_is_left_out_of_an_export(
    tmp_path: Path,
) -> None:
    async with letters_of(tmp_path, b"no json", fragment(name="good")) as (buffer, letters):
        step = await replay(letters, keeps=True)
        exported = await letters.export(ALL, after=0)

        assert (step.letters, step.stayed[0].ids) == (1, [1])
        assert "cannot be read" in step.stayed[0].why
        assert len(exported.lines) == 1
        assert '"good"' in exported.lines[0]
        assert [(each.ids, each.letters) for each in exported.left_out] == [([1], 1)]
        assert len(await buffer.dead_letters.newest()) == 2


async def test_ids_that_there_are_not_are_named(tmp_path: Path) -> None:
    async with letters_of(tmp_path, fragment(), fragment()) as (_buffer, letters):
        wanted = DeadLetterFilter(ids=(2, 9))
        assert (await letters.discard(wanted, after=0, erases=False)).missing == [9]
        stayed = (await replay(letters, wanted)).stayed
        assert stayed == [LeftOut("there is no such dead letter", 2, [2, 9])]
        with pytest.raises(UnknownDeadLetter):
            await letters.show(9)


async def test_words_that_differ_in_numbers_and_ids_are_one_group_with_the_newest(
    tmp_path: Path,
) -> None:
    async with letters_of(tmp_path) as (buffer, letters):
        for words in ("request 17 of c0ffee-1: no", "request 18 of c0ffee-2: no", "other"):
            letter = DeadLetter("a", "upstream_refused", words, 1, Encoding.JSON, b"", affected=1)
            put(buffer, letter)
        await buffer.flush()
        groups = (await letters.groups(ALL)).groups

    assert [(group.letters, group.newest.letter.words) for group in groups] == [
        (1, "other"),
        (2, "request 18 of c0ffee-2: no"),
    ]


async def test_erasing_comes_to_its_end_while_spans_come_and_go(tmp_path: Path) -> None:
    frame = noise(30_000, 77)
    async with letters_of(tmp_path, noise(30_000, 77), keep_delivered_seconds=0, tail_bytes=0) as (
        buffer,
        letters,
    ):
        backlog = buffer.consumer("a")
        await buffer.remove(buffer.consumer("b").name)
        stop = anyio.Event()
        delivered = 0

        async def busy() -> None:
            nonlocal delivered
            while not stop.is_set():
                await buffer.append(kept(piece(noise(200_000, delivered))))
                delivered += await deliver_all(backlog)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(busy)
            await eventually(lambda: delivered > 20)
            files = [tmp_path / "relay.db", tmp_path / "relay.db-wal"]
            assert any(frame[500:540] in file.read_bytes() for file in files)
            await letters.discard(ALL, after=0, erases=True)
            done = await letters.finish_erasing()
            held = (tmp_path / "relay.db").read_bytes()
            stop.set()

    assert (done.is_done, done.why) == (True, "")
    assert not any(frame[at : at + 40] in held for at in range(0, len(frame), 500))


@pytest.mark.parametrize(
    ("seconds", "why"),
    [(1.0, "the buffer was being read all the time"), (0.0, "pages kept coming free")],
)
async def test_erasing_that_cannot_be_finished_says_what_was_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, why: str
) -> None:
    monkeypatch.setattr(dead_letter_transactions, "_ERASE_SECONDS", seconds)
    async with letters_of(tmp_path, noise(30_000, 77)) as (buffer, letters):
        other = apsw.Connection(str(tmp_path / "relay.db"), flags=apsw.SQLITE_OPEN_READONLY)
        with other:
            assert other.execute("SELECT count(*) FROM dead_letters").get == 1
            await letters.discard(ALL, after=0, erases=True)
            found = await letters.finish_erasing()
        other.close()
        monkeypatch.undo()
        assert (found.is_done, found.why) == (False, why)
        assert (await letters.finish_erasing()).is_done
        await buffer.flush()


async def test_log_records_are_sent_again_as_log_records(tmp_path: Path) -> None:
    record = b'{"scopeLogs":[{"logRecords":[{"timeUnixNano":"7","body":{"stringValue":"hi"}}]}]}'
    async with letters_of(tmp_path) as (buffer, letters):
        logs = buffer.consumer("a", signal=Signal.LOGS)
        put(
            buffer,
            DeadLetter(
                "a", "upstream_refused", "no", 1, Encoding.JSON, record, 1, signal=Signal.LOGS
            ),
        )
        await buffer.flush()
        assert (await replay(letters, DeadLetterFilter(signal=Signal.TRACES))).letters == 0
        assert (await replay(letters, DeadLetterFilter(signal=Signal.LOGS))).letters == 1
        (body,) = await take_all(logs)
        assert b'"hi"' in body
        assert body.startswith(b'{"scopeLogs"')
        assert not buffer.consumer("a").has_more
