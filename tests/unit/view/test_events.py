"""Watchers: bounded queues, a bounded number, and an end."""

from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest

from relay.admin import stream as streams
from relay.admin.stream import Watching, streamed
from relay.model.errors import ConfigError
from relay.view.events import (
    MOST_STREAMS,
    MOST_WAITING,
    Event,
    EventSink,
    Hub,
    TooManyStreams,
)

pytestmark = pytest.mark.anyio
SCOPE: dict[str, Any] = {"type": "http", "method": "GET"}


async def never() -> MutableMapping[str, Any]:
    await anyio.sleep_forever()
    raise AssertionError


async def test_watcher_that_does_not_read_is_dropped_and_others_go_on() -> None:
    hub = Hub()
    slow, quick = hub.watch(), hub.watch()
    for number in range(MOST_WAITING + 1):
        hub.tell("arrived", number)
        assert (await quick.source.receive()).data == number

    assert len(hub) == 1
    slow.source.close()
    quick.end()
    quick.source.close()


async def test_stream_whose_reader_hangs_ends_without_waiting_for_it() -> None:
    hub = Hub()
    stream = Watching(hub, Event("hello", {}))
    is_stuck = anyio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            is_stuck.set()
            await anyio.sleep_forever()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream, SCOPE, never, send)
            await is_stuck.wait()
            for number in range(MOST_WAITING + 1):
                hub.tell("arrived", number)
    assert len(hub) == 0


async def test_no_more_streams_than_there_may_be_and_room_again_afterwards() -> None:
    hub = Hub()
    watchers = [hub.watch() for _ in range(MOST_STREAMS)]
    with pytest.raises(TooManyStreams):
        hub.watch()
    watchers[0].end()
    watchers.append(hub.watch())
    for each in watchers:
        each.end()
        each.source.close()


async def test_end_of_all_ends_each() -> None:
    hub = Hub()
    watcher = hub.watch()
    hub.close()
    with pytest.raises(anyio.EndOfStream):
        await watcher.source.receive()
    with pytest.raises(TooManyStreams):
        hub.watch()
    watcher.source.close()


async def sent_by(stream: streams.EventStream, has_begun: anyio.Event | None = None) -> bytes:
    """The body of a response, whole; the event is set with its first piece."""
    pieces: list[bytes] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        pieces.append(message.get("body", b""))
        if has_begun and pieces[-1]:
            has_begun.set()

    with anyio.fail_after(30):
        await stream(SCOPE, never, send)
    return b"".join(pieces)


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.01)

    has_begun = anyio.Event()

    async def work(_sink: EventSink) -> str:
        await has_begun.wait()
        return "over"

    body = await sent_by(streamed(work), has_begun)
    assert body.startswith(b": still here\n\n")
    assert body.endswith(b'event: done\ndata: "over"\n\n')


async def test_work_that_fails_is_told_in_words() -> None:
    async def work(sink: EventSink) -> None:
        sink.send_nowait(Event("step", "one\ntwo"))
        raise ConfigError("no such thing", hint="take another")

    assert await sent_by(streamed(work)) == (
        b'id: 1\nevent: step\ndata: "one\\ntwo"\n\n'
        b'id: 2\nevent: failed\ndata: {"error":"no such thing\\n  hint: take another"}\n\n'
    )
