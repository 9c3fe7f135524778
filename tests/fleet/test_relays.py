"""Several relays of one fleet: each row is delivered by one of them, whoever dies or wakes up."""

import functools
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.backlog import Backlog
from relay.buffer.kafka.settings import KafkaSettings
from tests.fleet.making import (
    SECONDS,
    deliver_all,
    make_topics,
    numbers_of,
    running,
    settings_of,
    take,
)
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually

pytestmark = pytest.mark.anyio
A = BacklogName("a")
NAMES = [f"r{number}" for number in range(1, 5)]


def relays_of(broker: Brokers, partitions: int = 6) -> list[KafkaSettings]:
    """Settings of relays of one new fleet."""
    first = settings_of(broker)
    make_topics(first, partitions)
    name = first.fleet.name
    return [first, *(settings_of(broker, relay_id=each, name=name) for each in NAMES[1:])]


async def deliver_until(consumer: Backlog, came: Counter[int], wanted: set[int]) -> None:
    """Take and settle until all of `wanted` came to somebody."""
    while not wanted <= came.keys():
        with anyio.move_on_after(0.2):
            await consumer.wait()
        taken = await consumer.take(max_bytes=1 << 20, max_items=20)
        if taken is not None:
            came.update(numbers_of(taken))
            consumer.settle(taken, status=200, at_ns=1)


async def become(is_so: Callable[[], bool]) -> None:
    """Return when it is so."""
    await anyio.to_thread.run_sync(lambda: eventually(is_so, seconds=SECONDS))


async def has_lanes(consumer: Backlog, count: int) -> None:
    """Return when it has so many partitions."""
    await become(lambda: len(consumer.lanes) == count)


@contextmanager
def child_of(settings: KafkaSettings, log: Path) -> Iterator[subprocess.Popen[str]]:
    """A relay in another process, which holds its first batch when this begins."""
    fleet = settings.fleet
    arguments = [fleet.name, ",".join(fleet.brokers), settings.relay_id, str(log)]
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.fleet.delivering", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "holds\n"
        yield child
    finally:
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.communicate()


def delivered_by(log: Path) -> list[int]:
    """What a child delivered."""
    return [int(line) for line in log.read_text().split()]


async def test_two_relays_share_what_comes_and_deliver_it_once(broker: Brokers) -> None:
    one, two, *_ = relays_of(broker)
    came: Counter[int] = Counter()
    async with running(one) as first, running(two) as second:
        a, b = first.readers.consumer(A), second.readers.consumer(A)
        await has_lanes(a, 6)
        await has_lanes(b, 6)
        await first.put(*range(200))
        assert a.lanes.keys().isdisjoint(b.lanes)
        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(deliver_until, a, came, set(range(200)))
                tasks.start_soon(deliver_until, b, came, set(range(200)))

    assert came == Counter(range(200))


async def test_what_a_killed_relay_held_is_delivered_by_another(
    broker: Brokers, tmp_path: Path
) -> None:
    one, two, *_ = relays_of(broker)
    async with running(one) as relay:
        await relay.put(*range(100))
        with child_of(two, tmp_path / "log") as child:
            held = set(delivered_by(tmp_path / "log"))
            assert held
            child.kill()
            # It has delivered them, and could not say so: they come again.
            came = await deliver_all(relay.readers.consumer(A), set(range(100)))

    assert sorted(came) == list(range(100))


async def test_a_frozen_relay_that_wakes_up_skips_nothing(broker: Brokers, tmp_path: Path) -> None:
    one, two, *_ = relays_of(broker)
    log = tmp_path / "log"
    async with running(one) as relay:
        await relay.put(*range(100))
        with child_of(two, log) as child:
            child.send_signal(signal.SIGSTOP)
            a = relay.readers.consumer(A)
            await has_lanes(a, 12)
            some = await take(a, max_items=10)
            came = Counter(numbers_of(some))
            a.settle(some, status=200, at_ns=1)
            child.send_signal(signal.SIGCONT)
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
            await relay.put(*range(100, 200))
            with anyio.fail_after(SECONDS):
                while not set(range(200)) <= came.keys() | set(delivered_by(log)):
                    with anyio.move_on_after(0.2):
                        await a.wait()
                    taken = await a.take(max_bytes=1 << 20, max_items=20)
                    if taken is not None:
                        came.update(numbers_of(taken))
                        a.settle(taken, status=200, at_ns=1)
            twice = (came + Counter(delivered_by(log))) - Counter(range(200))
            print(f"delivered twice: {sum(twice.values())} of 200")
            assert sum(twice.values()) <= 120


async def test_relays_that_come_and_go_all_the_time_lose_nothing(broker: Brokers) -> None:
    relays = relays_of(broker)
    came: Counter[int] = Counter()
    wanted = set(range(400))
    async with running(relays[0]) as stays:
        a = stays.readers.consumer(A)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deliver_until, a, came, wanted)
            for turn in range(4):
                async with AsyncExitStack() as stack:
                    for each in relays[1 : 2 + turn % 3]:
                        other = await stack.enter_async_context(running(each))
                        b = other.readers.consumer(A)
                        tasks.start_soon(deliver_some, b, came)
                    await stays.put(*range(turn * 100, turn * 100 + 100))
                    await become(functools.partial(has_half_of, turn, came))
            await become(lambda: wanted <= came.keys())
        await stays.readers.flush()

    twice = came - Counter(wanted)
    print(f"delivered twice: {sum(twice.values())} of 400")
    assert wanted == came.keys()


def has_half_of(turn: int, came: Counter[int]) -> bool:
    """Whether half of what came in that turn was delivered."""
    return len(came.keys() & set(range(turn * 100, turn * 100 + 100))) >= 50


async def deliver_some(consumer: Backlog, came: Counter[int]) -> None:
    """Take and settle until its relay has left the group."""
    with anyio.move_on_after(4.0):
        await deliver_until(consumer, came, {-1})
