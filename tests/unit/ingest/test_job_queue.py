"""Whose body is next in the process that decodes large ones."""

from typing import NamedTuple

from relay.ingest.offload.job_queue import JobQueue

MIB = 1024 * 1024


class Job(NamedTuple):
    sender: str
    size: int
    name: str = ""


def served(queue: JobQueue[Job], now: float, *, seconds: float = 0.1) -> Job | None:
    """The next one, done at once in so many seconds of 1.3 allowed."""
    job, _ = queue.next(now)
    if job is not None:
        queue.done(job, seconds, 1.3, now)
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
    served(queue, 0.0, seconds=0.3)
    for _ in range(3):
        queue.put(Job("busy", MIB), 0.0)
    queue.put(Job("other", 30 * MIB), 0.0)

    order = [served(queue, 0.0, seconds=0.2) for _ in range(4)]
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


def test_heavy_job_makes_the_next_one_of_its_sender_wait_as_long_as_it_took() -> None:
    queue = JobQueue[Job]()
    queue.put(Job("a", MIB, "heavy"), 10.0)
    served(queue, 12.0, seconds=1.2)
    queue.put(Job("a", MIB, "next"), 12.0)

    assert queue.next(12.0) == (None, 13.2)
    queue.put(Job("b", MIB), 12.5)
    other = served(queue, 12.5)
    assert other is not None
    assert other.sender == "b"
    assert served(queue, 13.2) == Job("a", MIB, "next")


def test_usual_job_makes_nobody_wait() -> None:
    queue = JobQueue[Job]()
    for _ in range(2):
        queue.put(Job("a", MIB), 0.0)
    served(queue, 0.0, seconds=0.1)

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
