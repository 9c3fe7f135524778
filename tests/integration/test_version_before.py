"""The state directory of the version before, killed in the middle: taken up, intact and damaged.

Made by 0.1.0, whose `last-row` had no ledger: rows 1-12 of a span each, with trace ids 1-12; to `a`
the first six were delivered, to `b`, which is paused, none; one dead letter of the way in.
"""

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mockcollector.server import MockCollector
from tests.support.relay_process import Relay, eventually

STATE = Path(__file__).parent.parent / "fixtures" / "state_of_0_1_0.tar.gz"
ALL = [f"{number:016x}" for number in range(1, 13)]


@dataclass
class TakenUp:
    """A relay on that state, and a collector for each of its destinations."""

    relay: Relay
    upstreams: dict[str, MockCollector]

    def delivered(self, name: str) -> list[str]:
        """Spans that came to a destination, in order of their ids."""
        return sorted(span.span_id for span in self.upstreams[name].journal.spans())

    def wait_for(self, *, quarantined: int = 0, **spans: int) -> None:
        """Until so many files are read back, so many spans came, and no more wait there."""

        def is_over() -> bool:
            files = self.relay.status()["buffer"]["set_aside"]
            is_read = sum(each["may_be_removed"] for each in files) == quarantined
            waiting = [self.relay.destination(name)["waiting_spans"] for name in spans]
            came = all(len(self.delivered(name)) >= count for name, count in spans.items())
            return is_read and came and not any(waiting)

        eventually(is_over)

    def states(self, number: int) -> dict[str, str]:
        """What `where` says of a trace, by destination."""
        shown = self.relay.run("where", f"{number:032x}", "--json")
        assert shown.returncode == 0, shown.stderr
        return {each["name"]: each["state"] for each in json.loads(shown.stdout)["destinations"]}


@contextmanager
def taken_up(folder: Path, damage: Callable[[Path], None] | None = None) -> Iterator[TakenUp]:
    with MockCollector() as a, MockCollector() as b:
        relay = Relay(folder, {"a": {"endpoint": a.endpoint}, "b": {"endpoint": b.endpoint}})
        relay.state_dir.mkdir(mode=0o700)
        with tarfile.open(STATE) as files:
            files.extractall(relay.state_dir, filter="data")
        if damage is not None:
            damage(relay.state_dir)
        with relay:
            yield TakenUp(relay, {"a": a, "b": b})


def first_pages(state_dir: Path) -> None:
    """With them goes the schema, and what the tables are."""
    for name in ("relay.db", "relay.db-wal"):
        path = state_dir / name
        if path.exists() and path.stat().st_size:
            with path.open("r+b") as file:
                file.write(b"\xff" * 4096)


def test_it_goes_on_where_the_version_before_stopped(tmp_path: Path) -> None:
    with taken_up(tmp_path) as it:
        it.wait_for(a=6)
        assert it.delivered("a") == ALL[6:]
        assert it.delivered("b") == []
        assert it.states(3) == {"a": "delivered", "b": "waiting"}
        assert it.relay.status()["buffer"]["dead_letters"] == 1
        assert it.relay.run("destination resume", "b").returncode == 0
        it.wait_for(b=12)
        assert it.delivered("b") == ALL
        assert it.states(3) == {"a": "delivered", "b": "delivered"}
        assert it.relay.status()["buffer"]["set_aside"] == []


def test_once_it_was_taken_up_damage_costs_neither_pauses_nor_what_was_delivered(
    tmp_path: Path,
) -> None:
    with taken_up(tmp_path) as it:
        it.wait_for(a=6)
        it.relay.stop()
        first_pages(it.relay.state_dir)
        it.relay.start()
        it.wait_for(a=6, quarantined=1)
        assert it.delivered("b") == []
        assert it.states(9)["b"] == "waiting"
        assert it.relay.run("destination resume", "b").returncode == 0
        it.wait_for(b=12, quarantined=1)
        assert it.delivered("a") == ALL[6:]
        assert it.delivered("b") == ALL
        assert it.relay.status()["buffer"]["dead_letters"] == 1


def test_damaged_before_it_was_taken_up_everything_goes_to_everybody(tmp_path: Path) -> None:
    with taken_up(tmp_path, first_pages) as it:
        it.wait_for(a=12, b=12, quarantined=1)
        assert set(it.delivered("a")) == set(it.delivered("b")) == set(ALL)
        assert it.states(3) == {"a": "delivered", "b": "delivered"}
        assert it.relay.status()["buffer"]["dead_letters"] == 1
        (aside,) = it.relay.status()["buffer"]["set_aside"]
        assert aside["words"].startswith("read back 12 rows (12 items) of relay.db.corrupt-")
