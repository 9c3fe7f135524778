"""Watchers: bounded queues, a bounded number, and an end."""

from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest

from relay.admin.stream import Watching
from relay.view.events import MOST_STREAMS, MOST_WAITING, Event, Hub, TooManyStreams

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

    with anyio.fail_after(5):
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
