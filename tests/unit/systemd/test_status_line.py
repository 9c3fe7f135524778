"""The one line for people, from documents such as `/api/status` gives."""

from typing import Any

import pytest

from relay.systemd.status_line import MAX_CHARACTERS, summarize

KIB, MIB = 1024, 1024 * 1024


def destination(name: str, state: str = "idle", **members: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "reason": "",
        "waiting_spans": 0,
        "waiting_bytes": 0,
        "oldest_waiting_seconds": 0.0,
    } | members


def status(*destinations: dict[str, Any], not_ready: str = "", spans: int = 0) -> dict[str, Any]:
    return {
        "ready": not not_ready,
        "not_ready_reason": not_ready,
        "buffer": {"spans": spans},
        "destinations": list(destinations),
    }


WAITING = {"waiting_spans": 5, "waiting_bytes": 12 * MIB, "oldest_waiting_seconds": 250.0}
LINES = {
    "no destination is configured: what comes is kept until there is one; 1,200 items kept": status(
        spans=1200
    ),
    "1 destination, all well; nothing waiting": status(destination("axiom")),
    "2 destinations, all well; 3.0 KiB waiting, oldest 400 ms": status(
        destination("a", "delivering", waiting_spans=1, waiting_bytes=KIB),
        destination(
            "b",
            "delivering",
            waiting_spans=9,
            waiting_bytes=2 * KIB,
            oldest_waiting_seconds=0.4,
        ),
    ),
    "3 destinations, 1 blocked: axiom 403 “bad token”; 12.0 MiB waiting, oldest 4 min 10 s": status(
        destination("axiom", "blocked", reason="403 “bad token”", **WAITING),
        destination("jaeger"),
        destination("tempo", "delivering"),
    ),
    "3 destinations, 1 blocked: b 401, 1 waiting: a cannot be reached, 1 paused: c; "
    "nothing waiting": status(
        destination("a", "waiting", reason="cannot be reached"),
        destination("b", "blocked", reason="401"),
        destination("c", "paused", reason="paused by command"),
    ),
    "4 destinations, 4 waiting: a 503, b 502, 2 more; nothing waiting": status(
        destination("a", "waiting", reason="503"),
        destination("b", "waiting", reason="502"),
        destination("c", "waiting", reason="500"),
        destination("d", "waiting", reason="500"),
    ),
    "NOT READY: the buffer is full; 1 destination, all well; nothing waiting": status(
        destination("a"), not_ready="the buffer is full"
    ),
    "NOT READY: the disk has not finished a write for 7 s; 1 destination, all well; "
    "nothing waiting": status(
        destination("a"), not_ready="the disk has not finished a write for 7 s"
    ),
    "stopping; 1 destination, all well; nothing waiting": status(
        destination("a"), not_ready="stopping"
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_line_says_what_is_true(line: str) -> None:
    assert str(summarize(LINES[line])) == line


def test_problem_of_a_reload_comes_first() -> None:
    line = str(summarize(status(destination("a")), "reload refused: no"))

    assert line == "reload refused: no; 1 destination, all well; nothing waiting"


def test_line_is_bounded_and_one_line_whatever_an_upstream_says() -> None:
    words = "no\r\nSTATUS=forged\x1b[31m " + "x" * 10_000
    blocked = [destination(f"d{n}", "blocked", reason=words, **WAITING) for n in range(30)]
    line = str(summarize(status(*blocked, not_ready=words), words))

    assert len(line) <= MAX_CHARACTERS
    assert line.isprintable()
    assert line.endswith("360.0 MiB waiting, oldest 4 min 10 s")


def test_amounts_are_no_part_of_the_condition() -> None:
    before = summarize(status(destination("a", waiting_spans=1, waiting_bytes=1)))
    after = summarize(status(destination("a", waiting_spans=2, waiting_bytes=9)))

    assert before.condition == after.condition
    assert before != after


def test_line_counts_a_destination_once_and_names_the_signal_where_it_has_several() -> None:
    entries = [
        destination("a", signal="traces"),
        destination("a", signal="logs", state="blocked", reason="404"),
        destination("b", signal="metrics", state="blocked", reason="403"),
    ]

    assert str(summarize(status(*entries))).startswith(
        "2 destinations, 2 blocked: a (logs) 404, b 403"
    )
