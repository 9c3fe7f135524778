"""A fleet under faults until the time is over: relays and brokers die, freeze and come back.

`python -m tests.soak.fleet [--seconds 300] [--seed N]`. Three brokers, three relays, two
destinations, senders at each relay. A relay that is killed loses its directory, too. The table at
the end has the items that were answered 200, each once for each destination; exit code 1 when one
was lost. Duplicates are counted, and allowed: at least once is the promise.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from mockcollector.server import MockCollector
from relay.buffer.kafka.fetched import record_of
from relay.buffer.kafka.letter_text import letter_of_record
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig
from tests.fleet.fleets import relay_of
from tests.fleet.reading import messages_in
from tests.support.kafka import Brokers
from tests.support.load import MIXED, SIGNALS, Load, ids_in
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually
from tests.trials.fates import Recorder
from tests.trials.rows import Fate, Row, judge, table

NAMES = ("left", "right")
RELAYS = 3
END_SECONDS = 120.0


class Soak:
    """The fleet, and what may befall it."""

    def __init__(self, folder: Path, seed: int, stack: ExitStack) -> None:
        self.random = random.Random(seed)
        self.brokers = stack.enter_context(Brokers(folder / "brokers"))
        self.recorders = {name: Recorder() for name in NAMES}
        keys = {}
        for name, recorder in self.recorders.items():
            collector = MockCollector(port=free_port(), keep="counts", on_request=recorder)
            stack.enter_context(collector)
            keys[name] = {"endpoint": collector.endpoint, "signals": SIGNALS}
        self.relays = [
            stack.enter_context(
                relay_of(self.brokers, folder / f"relay-{n}", keys, relay_id=f"r{n}", partitions=6)
            )
            for n in range(RELAYS)
        ]
        self.counts: dict[str, int] = {}

    def befall(self) -> None:
        """One of the faults, over when this returns."""
        faults: list[Callable[[], None]] = [
            self.lose_a_relay,
            self.freeze_a_relay,
            self.restart_a_relay,
            self.kill_a_broker,
            self.freeze_a_broker,
        ]
        fault = self.random.choice(faults)
        self.counts[fault.__name__] = self.counts.get(fault.__name__, 0) + 1
        fault()

    def lose_a_relay(self) -> None:
        """For good, with its disk; another comes under its id after a while."""
        relay = self.random.choice(self.relays)
        relay.kill()
        shutil.rmtree(relay.state_dir, ignore_errors=True)
        time.sleep(self.random.choice((0.5, 8.0)))
        relay.start()

    def freeze_a_relay(self) -> None:
        """Longer than its session; then it wakes up and thinks that nothing has happened."""
        relay = self.random.choice(self.relays)
        relay.signal(signal.SIGSTOP)
        time.sleep(self.random.choice((2.0, 9.0)))
        relay.signal(signal.SIGCONT)

    def restart_a_relay(self) -> None:
        """In good order."""
        relay = self.random.choice(self.relays)
        relay.stop()
        relay.start()

    def kill_a_broker(self) -> None:
        """One of three, which comes back with what it has on disk."""
        number = self.random.choice(self.brokers.numbers)
        self.brokers.kill(number)
        time.sleep(self.random.uniform(0.5, 5.0))
        self.brokers.restart(number)

    def freeze_a_broker(self) -> None:
        """Past its session with the others."""
        number = self.random.choice(self.brokers.numbers)
        self.brokers.freeze(number)
        time.sleep(5.0)
        self.brokers.thaw(number)

    def settle(self, acknowledged: set[str]) -> list[str]:
        """Wait until everything has arrived or is a dead letter; what is wrong if it does not."""

        def is_done() -> bool:
            if all(each.holds(acknowledged) for each in self.recorders.values()):
                return True
            dead = self.dead()
            return all(
                acknowledged <= recorder.ids | dead.get(name, {}).keys()
                for name, recorder in self.recorders.items()
            )

        try:
            eventually(is_done, seconds=END_SECONDS, what="an end of delivery")
        except AssertionError as error:
            return [str(error), *(self.standing(relay) for relay in self.relays)]
        return []

    def standing(self, relay: Relay) -> str:
        """What a relay says of its destinations."""
        queues = [each for name in NAMES for each in relay.queues(name)]
        return "; ".join(
            f"{each['name']} {each['signal']} {each['state']} {each['waiting_spans']}"
            for each in queues
        )

    def dead(self) -> dict[str, dict[str, str]]:
        """The ids in dead letters, by destination, with the reason."""
        fleet = FleetConfig(brokers=tuple(self.brokers.bootstrap))
        topic = KafkaSettings(fleet, "oracle").dead_letters_topic
        found: dict[str, dict[str, str]] = {}
        for message in messages_in(self.brokers, topic):
            stored = letter_of_record(record_of(message))
            if stored is not None:
                ids = dict.fromkeys(ids_in(stored.letter.body), stored.letter.reason)
                found.setdefault(stored.letter.destination, {}).update(ids)
        return found


def soak(seconds: float, seed: int) -> Row:
    """One fleet for so long."""
    folder = Path(tempfile.mkdtemp(prefix="soak-fleet-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "brokers").mkdir()
        fleet = Soak(folder, seed, stack)
        until = time.monotonic() + seconds
        with ExitStack() as senders:
            loads = [
                senders.enter_context(Load(relay.ingest_port, senders=1, kinds=MIXED))
                for relay in fleet.relays
            ]
            while time.monotonic() < until:
                loads[0].wait_for_more(50, seconds=60.0)
                fleet.befall()
        acknowledged = set[str]().union(*(load.acknowledged for load in loads))
        problems = fleet.settle(acknowledged)
        dead = fleet.dead()
        fates = {}
        for name, recorder in fleet.recorders.items():
            fate, _repeated = recorder.fate()
            fates[name] = Fate(fate.arrived, dead.get(name, {}), fate.arrived)
        statuses: dict[int, int] = {}
        for load in loads:
            for status, count in load.statuses.items():
                statuses[status] = statuses.get(status, 0) + count
        print(f"faults {fleet.counts}; answers {statuses}; seed {seed}", flush=True)
        return judge("fleet", acknowledged, fates, problems)


def main() -> int:
    """The table; 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    row = soak(asked.seconds, asked.seed)
    print(table([row]))
    return 0 if row.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
