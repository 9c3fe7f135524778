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


@pytest.mark.parametrize(("seconds", "other_at"), [(0.1, 0.0), (1.5, None), (1.5, -61.0)])
def test_short_job_or_one_of_a_lone_sender_makes_nobody_wait(
    seconds: float, other_at: float | None
) -> None:
    queue = JobQueue[Job]()
    if other_at is not None:
        queue.put(Job("other", MIB), other_at)
        served(queue, other_at)
    for _ in range(2):
        queue.put(Job("a", MIB), 0.0)
    served(queue, 0.0, seconds=seconds)

    assert served(queue, 0.0) is not None


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
