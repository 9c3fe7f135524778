"""What `where` and `replay` say of documents as the admin API makes them; times as typed."""

from datetime import datetime
from typing import Any

import pytest

from relay.cli.moments import parse_moment
from relay.cli.replay import lines_of as replay_lines
from relay.cli.where import lines_of, unknown_lines
from relay.model.errors import ConfigError
from relay.traces.ids import readings

TRACE = "0af7651916cd43dd8448eb211c80319c"
NOW_NS = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z


def destination(state: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "up",
        "signal": "traces",
        "endpoint": "https://up.example/v1/traces",
        "is_configured": True,
        "is_known": True,
        "state": state,
        "at": None,
        "status": 0,
        "waiting_since": None,
        "is_in_flight": False,
        "stepped_around": None,
        "dead_letters": [],
        "destination_state": "idle",
        "reason": "",
        "failing_since": None,
        "tries": 0,
        "last_status": 0,
        "last_success_at": None,
        "next_try_at": None,
    } | more


def piece(state: str = "waiting", **more: Any) -> dict[str, Any]:
    return {
        "row": 5,
        "received_at": "2026-01-01T00:00:00.000Z",
        "sender": "127.0.0.1",
        "user_agent": "sdk/1",
        "services": ["shop"],
        "encoding": "json",
        "signal": "traces",
        "spans": 2,
        "is_kept": True,
        "destinations": [{"name": "up", "state": state, "at": None, "status": 0}],
    } | more


def told(*destinations: dict[str, Any], **more: Any) -> str:
    found = {
        "trace_id": TRACE,
        "ids": [{"trace_id": TRACE, "how": "id"}],
        "received": [piece()],
        "dead_letters": [],
        "destinations": list(destinations),
    } | more
    return "\n".join(lines_of(found, TRACE))


def test_blocked_destination_is_told_with_its_tries_and_the_next_one() -> None:
    text = told(
        destination(
            "waiting",
            waiting_since="T0",
            destination_state="blocked",
            reason="401: no such key",
            failing_since="T1",
            tries=3,
            last_status=401,
            last_success_at="T2",
            next_try_at="T3",
        )
    )

    assert "waiting    for up (https://up.example/v1/traces) since T0: 401: no such key" in text
    assert (
        "blocked since T1 (3 tries failed, the last response was 401; it last accepted spans at T2)"
        in (text)
    )
    assert text.endswith("; next try at T3")


def test_what_is_being_sent_or_has_its_turn_soon_is_no_trouble() -> None:
    flying = told(destination("waiting", waiting_since="T0", is_in_flight=True))
    queued = told(destination("waiting", waiting_since="T0"))

    assert "since T0: being sent now" in flying
    assert "since T0: queued" in queued
    assert "failed" not in flying + queued


@pytest.mark.parametrize("failing_since", [None, "T1"])
def test_what_is_stepped_around_is_told_with_its_own_reason(failing_since: str | None) -> None:
    around = {"spans": 1, "said": "up answered 500: “boom”", "tries": 3, "next_try_at": "T2"}
    text = told(
        destination(
            "waiting", waiting_since="T0", stepped_around=around, failing_since=failing_since
        )
    )
    first = told(
        destination("waiting", waiting_since="T0", stepped_around=around | {"tries": 0, "spans": 2})
    )

    assert "since T0: up answered 500: “boom”\n" in text
    assert (
        "1 span parked so that others pass: retried alone (3 tries so far), next at T2; "
        "at once with `otlp-relay destination resume up`"
    ) in text
    assert "2 spans parked so that others pass: retried alone, next at T2" in first


def test_dead_without_its_letter_says_what_may_have_become_of_it() -> None:
    text = told(destination("set_aside", at="T1", status=400))

    assert "dead       for up at T1: 400" in text
    assert "has been replayed, discarded or evicted" in text


def test_requests_that_fare_alike_are_not_told_one_by_one() -> None:
    alike = told(destination("waiting"), received=[piece(), piece()])
    unlike = told(destination("waiting"), received=[piece(), piece("delivered", is_kept=False)])

    assert "up: " not in alike
    assert "up: waiting" in unlike
    assert "up: delivered" in unlike
    assert "gone       the data of 1 of 2 requests; what follows is from the history" in unlike


def test_unknown_trace_says_how_far_back_it_looked() -> None:
    text = "\n".join(unknown_lines({"known_since": "2026-01-01T00:00:00.000Z"}, "abc"))

    assert text.startswith("nothing is known of trace abc\n")
    assert "reaches back to 2026-01-01T00:00:00.000Z (" in text


@pytest.mark.parametrize(
    ("text", "hows"),
    [
        (TRACE, ["id"]),
        (TRACE.upper(), ["id"]),
        (f"{TRACE[:8]}-{TRACE[8:]}", ["id", "derived"]),
        (f"0x{TRACE}", ["id", "derived"]),
        (f"0X{TRACE.upper()}", ["id", "derived"]),
        (f"'{TRACE}'", ["id"]),
        (TRACE[1:], ["padded", "derived"]),
        (f"00-{TRACE}-b7ad6b7169203331-01", ["within", "derived"]),
        (f"https://jaeger.example/trace/{TRACE[1:]}", ["padded", "derived"]),
        (f"https://jaeger.example/trace/{TRACE}?uiFind=b7ad6b7169203331", ["within", "derived"]),
        ("app_trace_001", ["derived"]),
        ("0af7651916cd43dd", ["padded", "derived", "derived_from_bytes"]),
        ("z" * 32, ["derived"]),
        ("ü" * 32, ["derived"]),
    ],
)
def test_what_an_id_may_mean(text: str, hows: list[str]) -> None:
    found = readings(f" {text}\n")

    assert [each.how for each in found] == hows
    if hows[0] != "derived" and len(text) > 16:
        assert found[0].trace_id.hex() == TRACE
    assert all(len(each.trace_id) == 16 for each in found)


def test_times_are_a_while_ago_or_of_the_clock() -> None:
    def read(text: str) -> int:
        return parse_moment(text, now_ns=lambda: NOW_NS)

    assert read("1h30m") == NOW_NS - 5400 * 10**9
    assert read("2025-12-31T23:00:00Z") == NOW_NS - 3600 * 10**9
    assert read("2026-01-01T01:00+02:00") == NOW_NS - 3600 * 10**9
    local = datetime.fromisoformat("2025-12-30T03:00").timestamp()
    assert read("2025-12-30T03:00") == int(local * 1e9)
    assert read("36500d") == 0
    for wrong in ("", "5", "soon", "2025-13-01", "2026-01-01T00:00:01Z", "0001-01-01"):
        with pytest.raises(ConfigError):
            read(wrong)


def replayed(**more: Any) -> str:
    found = {
        "destination": "up",
        "is_dry_run": False,
        "found_rows": 1,
        "spans": 1,
        "by_signal": {"traces": 1},
        "has_deltas": False,
        "rows": 1,
        "bytes": 2048,
        "gone_rows": 0,
        "gone_spans": 0,
        "kept_since": "2026-01-01T00:00:00.000Z",
        "since": "2026-01-01T00:00:00.000Z",
        "trace_id": None,
        "destination_state": "idle",
        "reason": "",
    } | more
    return "\n".join(replay_lines(found))


def test_replay_says_how_much_and_how_far_back_it_reaches() -> None:
    text = replayed(since="2025-12-31T22:00:00.000Z", gone_rows=2, gone_spans=70)

    assert text.startswith("1 span since 2025-12-31T22:00:00.000Z will be sent to up again: 1 row,")
    assert "2.0 KiB before compression" in text
    assert "70 spans in 2 rows of it are gone already" in text
    assert "reaches back to 2026-01-01T00:00:00.000Z, 2 h 0 min less than you asked for" in text


def test_replay_says_when_the_destination_takes_nothing() -> None:
    assert "up accepts nothing now: 503" in replayed(destination_state="waiting", reason="503")
    assert "up is paused" in replayed(destination_state="paused")
    assert "reaches back" not in replayed()
