"""Relays of a fleet as programs of the benchmark.

Three brokers are started once for a run and stand by while other programs are measured. They may
use both cores: a relay that waits for brokers handles small lots, which are dear. Each trial has
topics of its own, which are deleted after it.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig
from tests.bench.programs import Plan, Relay, Running, RunningRelay, wait_until_delivered
from tests.fleet.fleets import fleet_table
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually

READY_SECONDS = 60.0
PARTITIONS = 12
NEEDED = ("java", "mvn")
_numbers = itertools.count(1)


@contextmanager
def brokers() -> Iterator[Brokers | None]:
    """Three of them, on all cores; None where they cannot be had."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        print(f"no {' and no '.join(missing)} here: the rows of the fleet are left out")
        yield None
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as folder, Brokers(Path(folder)) as three:
        os.sched_setaffinity(0, own)
        yield three


@dataclass(frozen=True)
class FleetRelays:
    """So many relays of one fleet, all on the core of what is measured."""

    name: str
    relay: Relay
    brokers: Brokers
    count: int = 1

    def start(self, folder: Path, plan: Plan) -> "RunningFleet":
        """With topics of their own."""
        return RunningFleet(self, folder, plan)


class RunningFleet(Running):
    """Them while they run."""

    def __init__(self, fleet: FleetRelays, folder: Path, plan: Plan) -> None:
        self._brokers = fleet.brokers
        name = f"bench{next(_numbers)}"
        names: dict[str, Any] = {
            "name": name,
            "topic": f"{name}_spans",
            "topic_json": f"{name}_spans_json",
        }
        config = FleetConfig(brokers=tuple(fleet.brokers.bootstrap), **names)
        self._settings = KafkaSettings(config, "bench")
        self._relays: list[RunningRelay] = []
        for number in range(fleet.count):
            own = folder / f"relay-{number}"
            own.mkdir()
            told = fleet_table(fleet.brokers, **names, partitions=PARTITIONS, relay_id=f"r{number}")
            self._relays.append(RunningRelay(fleet.relay, own, plan, told))
        for relay in self._relays:
            eventually(relay.is_ready, seconds=READY_SECONDS, what="a relay that is ready")

    @property
    def ports(self) -> tuple[int, ...]:
        """Of each relay."""
        return tuple(each.port for each in self._relays)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of each relay."""
        return tuple(each.pid for each in self._relays)

    @property
    def broker_pids(self) -> tuple[int, ...]:
        """Of each broker."""
        processes = [self._brokers.node(number).process for number in self._brokers.numbers]
        return tuple(each.pid for each in processes if each is not None)

    def wait_until_delivered(self, items: int) -> float:
        """Until every upstream has that many, whoever delivered them."""
        return wait_until_delivered(self._relays, items)

    def stop(self) -> None:
        """End them, and take their topics away."""
        for each in self._relays:
            each.stop()
        settings = self._settings
        admin = AdminClient(dict(settings.client()))
        own = [settings.dead_letters_topic, settings.control_topic, settings.history_topic]
        for deleted in admin.delete_topics([*settings.rows_topics, *own]).values():
            deleted.result(READY_SECONDS)
