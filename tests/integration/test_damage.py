"""A real daemon on files that were hit: it starts, says what it met, loses only what was hit."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from tests.support.load import SIGNALS, arrived, nth_request
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

PAGE = 4096


def away() -> dict[str, dict[str, Any]]:
    return to(f"http://127.0.0.1:{free_port()}/v1/traces")


def to(endpoint: str) -> dict[str, dict[str, Any]]:
    return {"mock": {"endpoint": endpoint, "signals": SIGNALS}}


def post(relay: Relay, requests: int) -> list[str]:
    ids: list[str] = []
    for number in range(requests):
        made = nth_request(number, 2, padding=random.Random(number).randbytes(1500).hex())
        assert relay.send(made)[0] == 200
        ids += made.ids
    return ids


def deliver(relay: Relay, upstream: MockCollector, items: int) -> set[str]:
    """Let the destination come back; the items that arrived once nothing waits any more."""
    relay.write_config(to(upstream.endpoint))
    relay.start()

    def is_over() -> bool:
        status = relay.status()
        files = status["buffer"]["set_aside"]
        is_read = all(each["may_be_removed"] for each in files)
        return is_read and relay.owed("mock") == 0

    eventually(lambda: len(arrived(upstream)) >= items, seconds=30)
    eventually(is_over)
    return arrived(upstream)


def first_page(state_dir: Path) -> None:
    with (state_dir / "relay.db").open("r+b") as file:
        file.write(bytes(PAGE))


def heads_of_pages(state_dir: Path) -> None:
    """Every seventh page loses its head: the tables fall apart, the rows on them do not."""
    path = state_dir / "relay.db"
    with path.open("r+b") as file:
        for page in range(7, path.stat().st_size // PAGE, 7):
            file.seek(page * PAGE)
            if file.read(1) == b"\x0d":
                file.seek(page * PAGE)
                file.write(b"\xff" * 8)


def head_of_the_wal(state_dir: Path) -> None:
    with (state_dir / "relay.db-wal").open("r+b") as file:
        file.write(bytes(24))


@pytest.mark.parametrize("damage", [first_page, heads_of_pages, head_of_the_wal])
def test_nothing_is_missing_where_no_row_was_hit(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with MockCollector() as upstream, Relay(tmp_path, away()) as relay:
        ids = post(relay, 60)
        if damage is head_of_the_wal:
            relay.kill()  # else it is written back and cut
        else:
            relay.stop()
        damage(relay.state_dir)
        found = deliver(relay, upstream, len(ids))
        text = relay.run("status").stdout
        evidence = list(relay.state_dir.glob("relay.db.corrupt-*"))

    assert found == set(ids)
    assert evidence
    assert "read back" in text
    assert "nothing that was owed is lost" in text
    assert "may be removed" in text
    assert sum(upstream.journal.counts.accepted.values()) == len(ids)  # once


def test_rows_that_were_hit_are_missing_and_named(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path, away()) as relay:
        ids = post(relay, 60)
        relay.stop()
        first_page(relay.state_dir)
        path = relay.state_dir / "relay.db"
        with path.open("r+b") as file:
            for page in range(40, path.stat().st_size // PAGE, 30):
                file.seek(page * PAGE)
                file.write(random.Random(page).randbytes(PAGE))
        found = deliver(relay, upstream, 40)
        status = relay.status()
        (aside,) = status["buffer"]["set_aside"]
        checked = relay.run("buffer check")

    lost = len(set(ids) - found)
    assert found < set(ids)
    assert f"({lost} items)" in aside["words"]
    assert " lost (" in aside["words"]
    assert status["buffer"]["dead_letters_by_destination"]["mock"] >= 1
    assert checked.returncode == 0
    assert aside["words"] in checked.stdout


def test_rows_lost_with_the_wal_are_counted(tmp_path: Path) -> None:
    with Relay(tmp_path, away()) as relay:
        post(relay, 10)
        relay.kill()
        (relay.state_dir / "relay.db-wal").unlink()
        relay.start()

        def words() -> str:
            return " ".join(each["words"] for each in relay.status()["buffer"]["set_aside"])

        eventually(lambda: " lost (" in words())
        told = words()
        post(relay, 1)
        status = relay.status()["buffer"]

    assert told.endswith("rows 1\N{EN DASH}10 are lost (20 items)")
    assert status["dead_letters_by_destination"] == {"mock": 1}
    assert status["last_row"] > 10


def test_pages_that_are_hit_in_use_stop_nothing(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path, away()) as relay:
        ids = post(relay, 60)
        relay.stop()
        relay.start()
        heads_of_pages(relay.state_dir)
        later = post(relay, 5)
        relay.write_config(to(upstream.endpoint))
        relay.signal(1)
        eventually(lambda: {*ids, *later} <= arrived(upstream), seconds=40)
        found = arrived(upstream)
        assert relay.stop() == 0

    assert found == set(ids) | set(later)
