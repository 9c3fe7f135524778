"""However many requests are refused, a minute of log stays short."""

from typing import Any

from structlog.testing import capture_logs

from relay.ingest.refusals import RefusalLog


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def events_of(refusals: list[tuple[int, str, str]], log: RefusalLog) -> list[dict[str, Any]]:
    with capture_logs() as events:
        for refusal in refusals:
            log.note(*refusal)
    return [dict(event) for event in events]


def test_refusals_are_logged_once_a_kind_and_sender() -> None:
    log = RefusalLog(Clock())
    events = events_of([(401, "a", "x"), (401, "a", "x"), (401, "b", "x"), (404, "a", "y")], log)

    assert [(e["status"], e["sender"], e["reason"]) for e in events] == [
        (401, "a", "x"),
        (401, "b", "x"),
        (404, "a", "y"),
    ]


def test_refusals_are_summed_up_after_a_minute() -> None:
    clock = Clock()
    log = RefusalLog(clock)
    events_of([(401, "a", "x")] * 5, log)
    clock.now += 61
    summary, again = events_of([(401, "a", "x")], log)

    assert (summary["event"], summary["by_status"]) == ("requests_refused_again", {"401": 4})
    assert again["event"] == "request_refused"


def test_refusals_of_many_senders_stay_few_events() -> None:
    log = RefusalLog(Clock())
    events = events_of([(401, f"10.0.{n // 256}.{n % 256}", "x") for n in range(5000)], log)
    with capture_logs() as at_the_end:
        log.summarise()
        log.summarise()

    assert len(events) == 20
    assert [event["by_status"] for event in at_the_end] == [{"401": 4980}]
