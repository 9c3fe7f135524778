"""A fleet under faults until the time is over: relays and brokers die, freeze and come back.

`python -m tests.soak.fleet [--seconds 300] [--seed N]`. Three brokers, three relays, two
destinations, senders at each relay. Faults come in rounds of each once, in an order that follows
from the seed; after each of them every relay has to take requests again. A relay that is killed
loses its directory, too. The table at the end has the items that were answered 200, each once for
each destination; exit code 1 when one was lost or the fleet hung. Duplicates are counted, and
allowed: at least once is the promise.
"""

import argparse
import http.client
import itertools
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

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
from tests.trials.rows import Fate, Row, by_signal, judge, table

NAMES = ("left", "right")
RELAYS = 3
SESSION_SECONDS = 6.0  # of a relay; then its partitions go to the others
AGAIN_SECONDS = 60.0  # after a fault, until a relay takes requests again
END_SECONDS = 120.0


class Soak:
    """The fleet, and what may befall it."""

    def __init__(self, folder: Path, seed: int, stack: ExitStack) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.brokers = stack.enter_context(Brokers(folder / "brokers"))
        self.recorders = {name: Recorder() for name in NAMES}
        self.destinations: dict[str, Any] = {}
        for name, recorder in self.recorders.items():
            collector = MockCollector(port=free_port(), keep="counts", on_request=recorder)
            stack.enter_context(collector)
            self.destinations[name] = {"endpoint": collector.endpoint, "signals": SIGNALS}
        self.relays = [stack.enter_context(self.relay(f"relay-{n}")) for n in range(RELAYS)]
        self.counts = Counter[str]()
        self._guests = itertools.count()
        self._faults: list[Callable[[], None]] = []

    def relay(self, name: str) -> Relay:
        """One of that id; start it."""
        folder = self.folder / name
        return relay_of(self.brokers, folder, self.destinations, relay_id=name, partitions=6)

    def next_fault(self) -> Callable[[], None]:
        """One of the faults, over when it returns."""
        if not self._faults:
            self._faults = [
                self.lose_a_relay,
                self.freeze_a_relay,
                self.wake_a_zombie,
                self.restart_a_relay,
                self.storm_of_rebalances,
                self.kill_a_broker,
                self.freeze_a_broker,
                self.wipe_a_broker,
                self.take_two_brokers,
                self.take_all_brokers,
                self.restart_each_broker,
            ]
            self.random.shuffle(self._faults)
        fault = self._faults.pop()
        self.counts[fault.__name__] += 1
        return fault

    # -- relays ---------------------------------------------------------------------------------

    def lose_a_relay(self) -> None:
        """For good, with its disk; another comes under its id after a while."""
        relay = self.random.choice(self.relays)
        relay.kill()
        shutil.rmtree(relay.state_dir, ignore_errors=True)
        time.sleep(self.random.choice((0.5, SESSION_SECONDS + 2.0)))
        relay.start()

    def freeze_a_relay(self) -> None:
        """For a moment that nobody notices."""
        self._stop_for(self.random.choice(self.relays), 2.0)

    def wake_a_zombie(self) -> None:
        """Frozen longer than its session, it wakes up and commits what is others' by now."""
        self._stop_for(self.random.choice(self.relays), SESSION_SECONDS + 3.0)

    def _stop_for(self, relay: Relay, seconds: float) -> None:
        relay.signal(signal.SIGSTOP)
        time.sleep(seconds)
        relay.signal(signal.SIGCONT)

    def restart_a_relay(self) -> None:
        """In good order."""
        relay = self.random.choice(self.relays)
        relay.stop()
        relay.start()

    def storm_of_rebalances(self) -> None:
        """Relays that nobody knows come one after another and die: each coming and each death
        shares the partitions anew, before the last sharing has settled.
        """
        for _ in range(4):
            guest = self.relay(f"guest-{next(self._guests)}")
            guest.start()
            time.sleep(self.random.uniform(0.0, 1.5))
            guest.kill()
            shutil.rmtree(guest.folder, ignore_errors=True)

    # -- brokers --------------------------------------------------------------------------------

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

    def wipe_a_broker(self) -> None:
        """Its disk is lost. What it had, the others must have: two disks at once are too many."""
        number = self.random.choice(self.brokers.numbers)
        self.brokers.wait_in_sync()
        self.brokers.wipe(number)
        self.brokers.restart(number)
        self.brokers.wait_in_sync()

    def take_two_brokers(self) -> None:
        """Nothing is acknowledged meanwhile."""
        self._take(*self.random.sample(self.brokers.numbers, 2))

    def take_all_brokers(self) -> None:
        """As a power cut does, but for what was not synced."""
        self._take(*self.brokers.numbers)

    def _take(self, *numbers: int) -> None:
        self.brokers.kill(*numbers)
        time.sleep(self.random.choice((1.0, 8.0)))
        self.brokers.restart(*numbers)

    def restart_each_broker(self) -> None:
        """As for an update: the next when the one before has everything again."""
        for number in self.brokers.numbers:
            self.brokers.kill(number)
            self.brokers.restart(number)
            self.brokers.wait_in_sync()

    # -- the end --------------------------------------------------------------------------------

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
            return [str(error), *self.standings()]
        return []

    def standings(self) -> list[str]:
        """What each relay says of its destinations."""
        return [self._standing(relay) for relay in self.relays]

    def _standing(self, relay: Relay) -> str:
        try:
            queues = [each for name in NAMES for each in relay.queues(name)]
        except (AssertionError, OSError, http.client.HTTPException) as error:
            return f"{relay.folder.name} does not answer: {error!r}"
        waiting = "; ".join(
            f"{each['name']} {each['signal']} {each['state']} {each['waiting_spans']}"
            for each in queues
        )
        return f"{relay.folder.name}: {waiting}"

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
        with ExitStack() as senders:
            loads = [
                senders.enter_context(Load(relay.ingest_port, senders=1, kinds=MIXED))
                for relay in fleet.relays
            ]
            problems = under_faults(fleet, loads, time.monotonic() + seconds)
        acknowledged = set[str]().union(*(load.acknowledged for load in loads))
        problems += fleet.settle(acknowledged)
        dead = fleet.dead()
        fates = {}
        for name, recorder in fleet.recorders.items():
            fate, _repeated = recorder.fate()
            fates[name] = Fate(fate.arrived, dead.get(name, {}), fate.arrived)
        statuses = sum((Counter(load.statuses) for load in loads), Counter[int]())
        print(f"faults {dict(fleet.counts)}; answers {dict(statuses)}; seed {seed}", flush=True)
        return judge("fleet", acknowledged, fates, problems)


def under_faults(fleet: Soak, loads: list[Load], until: float) -> list[str]:
    """Fault after fault until then; what went wrong, which ends it."""
    began, name = time.monotonic(), "the start"
    while time.monotonic() < until:
        try:
            for load in loads:
                load.wait_for_more(50, seconds=AGAIN_SECONDS)
            fault = fleet.next_fault()
            name = fault.__name__
            fault()
        except (AssertionError, KafkaException, OSError, subprocess.SubprocessError) as error:
            at = time.monotonic() - began
            return [f"after {at:.0f} s, {name}: {error}", *fleet.standings()]
        taken = sum(len(load.acknowledged) for load in loads)
        print(f"{time.monotonic() - began:6.0f} s  {name:22} {taken:>9,} acknowledged", flush=True)
    return []


def main() -> int:
    """The table; 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    row = soak(asked.seconds, asked.seed)
    print(f"\n{table([row])}\n\n{table(by_signal([row]))}")
    return 0 if row.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
