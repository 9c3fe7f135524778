"""A relay's reading half in a process of its own, to be killed and frozen.

Delivers to destination `a` by writing what it takes to a file, a number a line. After the first
batch it waits for a line on its standard input before it settles.
"""

import sys
from pathlib import Path

import anyio

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig
from tests.fleet.making import numbers_of, running


async def main(name: str, brokers: str, relay_id: str, log: Path) -> None:
    """Deliver until killed."""
    fleet = FleetConfig(
        name=name,
        brokers=tuple(brokers.split(",")),
        topic=f"{name}_spans",
        topic_json=f"{name}_spans_json",
        relay_id=relay_id,
    )
    async with running(KafkaSettings(fleet, relay_id)) as relay:
        consumer = relay.readers.consumer(BacklogName("a"))
        is_first = True
        while True:
            await consumer.wait()
            taken = await consumer.take(max_bytes=1 << 20, max_items=20)
            if taken is None:
                continue
            with log.open("a") as out:
                out.writelines(f"{number}\n" for number in numbers_of(taken))
            if is_first:
                print("holds", flush=True)
                await anyio.to_thread.run_sync(sys.stdin.readline)
                is_first = False
            consumer.settle(taken, status=200, at_ns=1)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
