"""Whose body is next in the process that decodes large ones."""

from typing import NamedTuple

import pytest

from relay.ingest.offload.job_queue import JobQueue

MIB = 1024 * 1024


class Job(NamedTuple):
    sender: str
    size: int
    name: str = ""


def served(queue: JobQueue[Job], now: float, *, seconds: float = 0.1) -> Job | None:
    """The next one, done at once in so many seconds."""
    job, _ = queue.next(now)
    if job is not None:
        queue.done(job, seconds, now)
    return job


def test_shortest_of_a_sender_is_first() -> None:
    queue = JobQueue[Job]()
    large, small = Job("a", 9 * MIB), Job("a", MIB)
    queue.put(large, 0.0)
    queue.put(small, 0.0)

    assert [served(queue, 0.0), served(queue, 0.0)] == [small, large]
    assert queue.next(0.0) == (None, None)


def test_sender_that_used_least_is_first_whatever_it_sends() -> None:
    queue = JobQueue[Job]()
    queue.put(Job("busy", MIB), 0.0)
    served(queue, 0.0, seconds=0.09)
    for _ in range(3):
        queue.put(Job("busy", MIB), 0.0)
    queue.put(Job("other", 30 * MIB), 0.0)

    order = [served(queue, 0.0, seconds=0.05) for _ in range(4)]
    assert [job.sender for job in order if job] == ["other", "busy", "busy", "busy"]


def test_what_was_used_is_forgotten_by_and_by() -> None:
    queue = JobQueue[Job]()
    queue.put(Job("then", MIB), 0.0)
    served(queue, 0.0, seconds=0.3)
    queue.put(Job("now", MIB), 300.0)
    served(queue, 300.0, seconds=0.1)
    queue.put(Job("then", MIB), 300.0)
    queue.put(Job("now", MIB), 300.0)

    job = served(queue, 300.0)
    assert job is not None
    assert job.sender == "then"


def test_long_job_makes_the_next_one_of_its_sender_wait_twice_as_long() -> None:
    queue = JobQueue[Job]()
    queue.put(Job("b", MIB), 9.0)
    served(queue, 9.0)
    queue.put(Job("a", MIB, "long"), 10.0)
    served(queue, 12.0, seconds=1.5)
    queue.put(Job("a", MIB, "next"), 12.0)

    assert queue.next(12.0) == (None, 15.0)
    queue.put(Job("b", MIB), 12.5)
    other = served(queue, 12.5)
    assert other is not None
    assert other.sender == "b"
    assert served(queue, 15.0) == Job("a", MIB, "next")


@pytest.mark.parametrize(("seconds", "other_at"), [(0.1, 100.0), (1.5, None), (1.5, 40.0)])
def test_short_job_or_one_of_a_lone_sender_makes_nobody_wait(
    seconds: float, other_at: float | None
) -> None:
    queue = JobQueue[Job]()
    if other_at is not None:
        queue.put(Job("other", MIB), other_at)
        assert served(queue, other_at) == Job("other", MIB)
    for _ in range(2):
        queue.put(Job("a", MIB), 100.0)
    served(queue, 100.0, seconds=seconds)

    assert served(queue, 100.0) == Job("a", MIB)


def test_slow_bodies_of_one_sender_are_no_reason_to_turn_another_away() -> None:
    queue = JobQueue[Job]()
    for _ in range(4):
        queue.put(Job("slow", MIB), 0.0)
        served(queue, 0.0, seconds=2.0)
    for _ in range(5):
        queue.put(Job("slow", MIB), 100.0)

    assert queue.expected_seconds("slow", MIB) > 8
    assert queue.expected_seconds("other", 64 * MIB) == 0.0
    queue.put(Job("other", 2 * MIB), 100.0)
    assert queue.expected_seconds("other", 2 * MIB) < 0.5


def test_senders_without_end_leave_no_trace() -> None:
    queue = JobQueue[Job]()
    for number in range(5000):
        queue.put(Job(f"sender {number}", MIB), float(number))
        served(queue, float(number))

    assert len(queue._senders) <= 1000


def test_what_waits_can_be_taken_all_at_once() -> None:
    queue = JobQueue[Job]()
    jobs = [Job("a", 1), Job("b", 2), Job("b", 3)]
    for job in jobs:
        queue.put(job, 0.0)

    assert queue.take_all() == jobs
    assert queue.next(0.0) == (None, None)


@pytest.mark.parametrize(("used_now", "first"), [(0.01, "now"), (0.012, "then")])
def test_what_was_used_a_minute_ago_counts_for_a_third(used_now: float, first: str) -> None:
    queue = JobQueue[Job]()
    queue.put(Job("then", MIB), 0.0)
    served(queue, 0.0, seconds=0.03)
    queue.put(Job("now", MIB), 60.0)
    served(queue, 60.0, seconds=used_now)
    queue.put(Job("then", MIB), 60.0)
    queue.put(Job("now", MIB), 60.0)

    assert served(queue, 60.0) == Job(first, MIB)


def test_speed_of_a_sender_is_what_was_measured_and_less_and_less_of_what_was_before() -> None:
    queue = JobQueue[Job]()
    for seconds, size, expected in ((2.0, MIB, 2.04375 / 1.7), (1.0, 2 * MIB, 2.430625 / 3.19)):
        queue.put(Job("a", size), 0.0)
        served(queue, 0.0, seconds=seconds)
        queue.put(Job("a", MIB), 0.0)
        assert queue.expected_seconds("a", MIB) == pytest.approx(2 * expected)
        served(queue, 0.0, seconds=0.0)  # not begun: it says nothing


def test_senders_that_used_least_are_forgotten_by_halves() -> None:
    queue = JobQueue[Job]()
    for number in range(1000):
        queue.put(Job(f"sender {number}", MIB), 0.0)
        served(queue, 0.0, seconds=0.001 if number else 0.05)
    assert len(queue._senders) == 1000
    queue.put(Job("new", MIB), 0.0)
    assert len(queue._senders) == 500
    served(queue, 0.0, seconds=0.01)
    queue.put(Job("sender 0", MIB), 0.0)
    queue.put(Job("new", MIB), 0.0)

    assert served(queue, 0.0) == Job("new", MIB)  # the other one is remembered


@pytest.mark.parametrize(("used_now", "first"), [(0.015, "now"), (0.017, "then")])
def test_what_is_used_is_added_to_what_is_left_of_before(used_now: float, first: str) -> None:
    queue = JobQueue[Job]()
    jobs = (("then", 0.0, 0.03), ("then", 60.0, 0.005), ("now", 60.0, used_now))
    for sender, at, seconds in jobs:
        queue.put(Job(sender, MIB), at)
        served(queue, at, seconds=seconds)
    queue.put(Job("then", MIB), 60.0)
    queue.put(Job("now", MIB), 60.0)

    assert served(queue, 60.0) == Job(first, MIB)
