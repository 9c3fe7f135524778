"""What collectors took and dead letters hold goes in; the `Fate` of each destination comes out."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mockcollector.received import ReceivedRequest
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.values import StoredDeadLetter
from relay.model.counters import Counters
from tests.support.load import ids_in
from tests.trials.rows import Fate

# Settled ranges are on disk after 200 ms at the latest; the rest is for a request and a busy host:
# what arrived so long before a crash may come again after it.
IN_FLIGHT_SECONDS = 1.0

# A request that was out at a crash may lie in the collector's socket, and be read a moment later.
LAG_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that was taken: when it came, its ids, whether its sender got an answer."""

    at: float
    ids: tuple[str, ...]
    is_answered: bool


class Recorder:
    """Give it to a MockCollector as `on_request`; it remembers every item that was accepted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: list[Arrival] = []
        self._ids: set[str] = set()

    def __call__(self, request: ReceivedRequest) -> None:
        if not request.accepted_count:
            return
        ids = tuple(ids_in(request.body)[: request.accepted_count])
        arrival = Arrival(
            request.received_unix_nano / 1e9, ids, is_answered=request.status is not None
        )
        with self._lock:
            self._arrivals.append(arrival)
            self._ids.update(ids)

    def holds(self, ids: Iterable[str]) -> bool:
        """Whether all of `ids` have arrived."""
        with self._lock:
            return self._ids.issuperset(ids)

    @property
    def ids(self) -> set[str]:
        """The ids that have arrived."""
        with self._lock:
            return set(self._ids)

    def fate(self, crashes: Iterable[tuple[float, float]] = ()) -> tuple[Fate, list[str]]:
        """What arrived, and a sentence for each repetition that no crash explains.

        A crash is two times by the wall clock: since when what arrives may come again, and until.
        """
        crashes = list(crashes)
        with self._lock:
            arrivals = sorted(self._arrivals, key=lambda arrival: arrival.at)
        fate = Fate()
        first: dict[str, Arrival] = {}
        problems = []
        for arrival in arrivals:
            fate.arrived += arrival.ids
            if not arrival.is_answered or any(
                since <= arrival.at <= until + LAG_SECONDS for since, until in crashes
            ):
                fate.may_repeat += arrival.ids
            for each in arrival.ids:
                before = first.setdefault(each, arrival)
                is_explained = (
                    before is arrival
                    or not before.is_answered
                    or any(
                        since <= before.at <= until + LAG_SECONDS and until <= arrival.at
                        for since, until in crashes
                    )
                )
                if not is_explained:
                    problems.append(
                        f"{each} came again after {arrival.at - before.at:.2f} s without a crash"
                    )
                first[each] = arrival
        return fate, problems


def letters_in(state_dir: Path) -> list[StoredDeadLetter]:
    """Every dead letter of a relay that is not running."""

    async def read() -> list[StoredDeadLetter]:
        buffer = Buffer(state_dir, BufferSettings(min_free_bytes=0), Counters())
        buffer.open()
        try:
            return await buffer.dead_letters.newest(1_000_000)
        finally:
            await buffer.close()

    return asyncio.run(read())


def dead_by_destination(letters: Iterable[StoredDeadLetter]) -> dict[str, dict[str, str]]:
    """For each destination the ids in its dead letters, with reason, status and words."""
    found: dict[str, dict[str, str]] = {}
    for stored in letters:
        letter = stored.letter
        said = f"{letter.reason} {letter.status} {letter.words}"
        for each in ids_in(letter.body):
            found.setdefault(letter.destination, {})[each] = said
    return found
