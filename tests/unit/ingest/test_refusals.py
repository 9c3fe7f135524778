"""However many requests are refused, a minute of log stays short."""

from typing import Any

from structlog.testing import capture_logs

from relay.ingest.refusals import MOST_KINDS, STRANGERS, Refusals
from relay.model.counters import Counters


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def events_of(refusals: list[tuple[int, str, str]], log: Refusals) -> list[dict[str, Any]]:
    with capture_logs() as events:
        for refusal in refusals:
            log.note(*refusal)
    return [dict(event) for event in events]


def test_refusals_are_logged_once_a_kind_and_sender() -> None:
    log = Refusals(Counters(), Clock())
    events = events_of([(401, "a", "x"), (401, "a", "x"), (401, "b", "x"), (404, "a", "y")], log)

    assert [(e["status"], e["sender"], e["reason"]) for e in events] == [
        (401, "a", "x"),
        (401, "b", "x"),
        (404, "a", "y"),
    ]


def test_refusals_are_summed_up_after_a_minute() -> None:
    clock = Clock()
    log = Refusals(Counters(), clock)
    events_of([(401, "a", "x")] * 5, log)
    clock.now += 61
    summary, again = events_of([(401, "a", "x")], log)

    assert (summary["event"], summary["by_status"]) == ("requests_refused_again", {"401": 4})
    assert again["event"] == "request_refused"


def test_refusals_of_many_senders_stay_few_events() -> None:
    log = Refusals(Counters(), Clock())
    events = events_of([(401, f"10.0.{n // 256}.{n % 256}", "x") for n in range(5000)], log)
    with capture_logs() as at_the_end:
        log.summarise()
        log.summarise()

    assert len(events) == 20
    assert [event["by_status"] for event in at_the_end] == [{"401": 4980}]


def test_refusals_of_the_last_hour_are_told_by_reason_path_and_sender() -> None:
    clock = Clock()
    refusals = Refusals(Counters(), clock)
    refusals.note(401, "10.0.0.1", "a token", path="/v1/traces", user_agent="old")
    clock.now += 30 * 60
    for _ in range(3):
        refusals.note(404, "10.0.0.2", "not here", path="/v1/trace", user_agent="sdk/1")
    half = [(e["reason"], e["path"], e["sender"], e["times"]) for e in refusals.last_hour()]
    clock.now += 31 * 60

    assert half == [
        ("404", "/v1/trace", "10.0.0.2", 3),
        ("401", "/v1/traces", "10.0.0.1", 1),
    ]
    assert [each["user_agent"] for each in refusals.last_hour()] == ["sdk/1"]


def test_refusals_stay_few_and_short_whatever_is_sent() -> None:
    counters = Counters()
    refusals = Refusals(counters, Clock())
    refusals.note_stranger("grpc", "10.0.0.9")
    for number in range(3000):
        path, agent = f"/{number}" + "x" * 5000, f"\x1b[2J\x9b{number}\u202e"
        refusals.note(
            404, f"10.0.{number // 256}.{number % 256}", "no", path=path, user_agent=agent
        )
    found = refusals.last_hour()

    assert len(found) <= MOST_KINDS + 2
    assert sum(each["times"] for each in found) == 3001
    assert {each["reason"]: each["times"] for each in found if not each["path"]} == {
        "grpc": 1,
        "404": 3000 - MOST_KINDS,
    }
    assert max(len(str(each)) for each in found) < 1000
    assert all(each["user_agent"].isprintable() for each in found)
    assert counters.refused == {"404": 3000, "grpc": 1}


def test_strangers_are_logged_once_a_minute_with_what_to_do() -> None:
    refusals = Refusals(Counters(), Clock())
    with capture_logs() as events:
        for _ in range(5):
            refusals.note_stranger("grpc", "10.0.0.9")
            refusals.note_stranger("connections", "10.0.0.9")

    (event,) = events
    assert (event["event"], event["log_level"], event["kind"]) == (
        "connection_refused",
        "warning",
        "grpc",
    )
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in event["reason"]
    assert event["sender"] == "10.0.0.9"
    assert all(STRANGERS.values())


def test_bodies_that_could_not_be_read_are_counted_and_the_last_is_told() -> None:
    log = Refusals(Counters(), Clock(), clock_ns=lambda: 1_700_000_000_000_000_000)
    assert log.bodies() == {
        "times": 0,
        "last_at": None,
        "last_message": "",
        "last_sender": "",
        "last_user_agent": "",
    }
    log.note_body("a", "no JSON", user_agent="x")
    log.note_body("b\n", "no protobuf", user_agent="y")

    assert log.bodies() == {
        "times": 2,
        "last_at": "2023-11-14T22:13:20.000Z",
        "last_message": "no protobuf",
        "last_sender": "b",
        "last_user_agent": "y",
    }


def test_refusals_are_counted_by_reason() -> None:
    counters = Counters()
    events_of([(401, "a", "x"), (401, "b", "x"), (404, "a", "x")], Refusals(counters, Clock()))

    assert counters.refused == {"401": 2, "404": 1}


def test_what_has_not_come_for_longest_is_told_by_its_reason_alone() -> None:
    clock = Clock()
    log = Refusals(Counters(), clock)
    events_of([(401, f"s{n}", "x") for n in range(MOST_KINDS)], log)
    events_of([(401, "s0", "x")], log)
    assert {each["sender"] for each in log.last_hour()} == {f"s{n}" for n in range(MOST_KINDS)}

    events_of([(401, "new", "x"), (401, "newer", "x")], log)
    times = {each["sender"]: each["times"] for each in log.last_hour()}
    assert len(times) == MOST_KINDS + 1
    assert (times[""], times["s0"], times["new"]) == (2, 2, 1)
    assert "s1" not in times


def test_refusals_are_told_for_an_hour_of_whole_minutes() -> None:
    clock = Clock()
    clock.now = 6000.0
    log = Refusals(Counters(), clock)
    events_of([(401, "a", "x")], log)
    clock.now += 59 * 60 + 59
    events_of([(401, "a", "x")], log)
    assert [each["times"] for each in log.last_hour()] == [2]
    clock.now += 1
    assert [each["times"] for each in log.last_hour()] == [1]
    clock.now += 3600
    assert log.last_hour() == []


def test_what_is_kept_of_those_told_by_their_reason_ends_after_an_hour_though_nobody_asks() -> None:
    clock = Clock()
    log = Refusals(Counters(), clock)
    for number in range(MOST_KINDS + 200):
        events_of([(401, f"s{number}", "x")], log)
        clock.now += 60
    (others,) = log._others.values()
    assert len(others.by_minute) <= 60


def test_a_minute_of_the_log_is_over_when_sixty_seconds_are() -> None:
    clock = Clock()
    log = Refusals(Counters(), clock)
    assert len(events_of([(401, "a", "x")] * 2, log)) == 1
    clock.now += 59.9
    assert events_of([(401, "a", "x")], log) == []
    clock.now += 0.1
    assert len(events_of([(401, "a", "x")], log)) == 2


def test_minutes_beyond_the_hour_are_forgotten_though_nobody_looks() -> None:
    clock = Clock()
    refusals = Refusals(Counters(), clock)
    for _ in range(300):
        refusals.note(401, "10.0.0.1", "a token")
        clock.now += 60.0

    (times,) = refusals._kinds.values()
    assert len(times.by_minute) == 60
