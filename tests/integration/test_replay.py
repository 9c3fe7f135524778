"""`otlp-relay replay` and `destination add --from TIME` against a real relay and collectors."""

import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from tests.support.builders import request, span
from tests.support.load import request_of, span_ids
from tests.support.relay_process import Relay, eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "1af7651916cd43dd8448eb211c80319c"


def received(upstream: MockCollector) -> Counter[str]:
    return Counter(each.span_id for each in upstream.journal.spans())


def post(relay: Relay, count: int = 3) -> list[str]:
    ids = span_ids(count)
    assert relay.post(request_of(ids))[0] == 200
    return ids


def settled(relay: Relay, *names: str) -> bool:
    """Whether nothing waits for them."""
    return all(relay.destination(name)["waiting_spans"] == 0 for name in names)


def border() -> str:
    """A time, local and without an offset, between all that was received and all to come."""
    moment = datetime.now() + timedelta(milliseconds=2)  # noqa: DTZ005 - as people type it
    eventually(lambda: datetime.now() > moment)  # noqa: DTZ005
    return moment.isoformat()


def two(first: MockCollector, second: MockCollector) -> dict[str, dict[str, Any]]:
    return {"first": {"endpoint": first.endpoint}, "second": {"endpoint": second.endpoint}}


def test_by_time_everything_kept_comes_again_to_one_destination_only(tmp_path: Path) -> None:
    with MockCollector() as first, MockCollector() as second:
        with Relay(tmp_path, two(first, second)) as relay:
            ids = post(relay) + post(relay)
            for each in (first, second):
                each.journal.wait_for_spans(6)
            eventually(lambda: settled(relay, "first", "second"))
            before = received(second)
            dry = relay.run("replay", "--to", "first", "--since", "1h", "--dry-run")
            shown = relay.run("replay", "--to", "first", "--since", "1h", "--wait")

            assert dry.returncode == shown.returncode == 0, shown.stderr
            assert "6 spans since" in dry.stdout
            assert "would be sent to first again" in dry.stdout
            assert "6 spans since" in shown.stdout
            assert "what is kept reaches back to" in shown.stdout
            eventually(lambda: received(first) == Counter(ids * 2))
            assert settled(relay, "first", "second")
            assert received(second) == before


def test_what_waits_already_is_not_owed_twice(tmp_path: Path) -> None:
    with MockCollector() as first, MockCollector(script="503*") as second:
        with Relay(tmp_path, two(first, second)) as relay:
            post(relay)
            eventually(lambda: relay.destination("second")["waiting_spans"] == 3)
            shown = relay.run("replay", "--to", "second", "--since", "1h")
            found = json.loads(
                relay.run("replay", "--to", "second", "--since", "1h", "--json").stdout
            )

            assert shown.returncode == 0
            assert "is already waiting for second" in shown.stdout
            assert (found["spans"], found["found_rows"]) == (0, 1)
            assert relay.destination("second")["waiting_spans"] == 3


def test_by_trace_only_its_spans_come_again(tmp_path: Path) -> None:
    with MockCollector() as first, MockCollector() as second:
        with Relay(tmp_path, two(first, second)) as relay:
            mixed = request(
                span(traceId=OTHER, spanId="1" * 16),
                span(traceId=TRACE, spanId="2" * 16),
                span(traceId=OTHER, spanId="3" * 16),
                span(traceId=TRACE, spanId="4" * 16),
            )
            assert relay.post(mixed)[0] == 200
            eventually(lambda: settled(relay, "first", "second") and second.journal.spans())
            shown = relay.run("replay", "--to", "second", "--trace", TRACE.upper(), "--wait")

            assert shown.returncode == 0, shown.stderr
            assert f"2 spans of trace {TRACE} will be sent to second again: 1 row" in shown.stdout
            once = Counter([each * 16 for each in "1234"])
            eventually(lambda: received(second) == once + Counter(["2" * 16, "4" * 16]))
            assert received(first) == once
            eventually(lambda: settled(relay, "second"))


def test_since_a_time_leaves_what_came_before_alone(tmp_path: Path) -> None:
    with MockCollector() as first:
        with Relay(tmp_path, {"first": {"endpoint": first.endpoint}}) as relay:
            old = post(relay)
            eventually(lambda: settled(relay, "first") and first.journal.spans())
            since = border()
            new = post(relay)
            eventually(lambda: settled(relay, "first") and first.journal.counts.spans_accepted == 6)
            shown = relay.run("replay", "--to", "first", "--since", since, "--wait")

            assert shown.returncode == 0, shown.stderr
            eventually(lambda: received(first) == Counter(old + new * 2))


def test_what_has_gone_is_said_and_is_1(tmp_path: Path) -> None:
    settings = '[buffer]\nkeep_delivered = "0s"'
    with MockCollector() as up:
        with Relay(tmp_path, {"up": {"endpoint": up.endpoint}}, settings=settings) as relay:
            post(relay)
            eventually(lambda: relay.status()["buffer"]["rows"] == 0 and up.journal.spans())
            shown = relay.run("replay", "--to", "up", "--since", "1h")

            assert shown.returncode == 1
            assert "nothing is kept since" in shown.stdout
            assert "3 spans in 1 row of it is gone already" in shown.stdout


def test_kill_after_the_answer_loses_nothing_of_it(tmp_path: Path) -> None:
    with MockCollector() as up:
        with Relay(tmp_path, {"up": {"endpoint": up.endpoint}}) as relay:
            ids = post(relay)
            eventually(lambda: settled(relay, "up") and up.journal.spans())
            assert relay.run("destination pause", "up").returncode == 0
            shown = relay.run("replay", "--to", "up", "--since", "1h")
            relay.kill()
            assert "up is paused" in shown.stdout
            relay.start()
            assert relay.destination("up")["waiting_spans"] == 3
            assert relay.run("destination resume", "up").returncode == 0

            eventually(lambda: received(up) == Counter(ids * 2))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--to", "up"), 2, "say either --since or --trace"),
        (("--to", "up", "--since", "1h", "--trace", TRACE), 2, "say either --since or --trace"),
        (("--since", "1h"), 2, "--to"),
        (("--to", "up", "--since", "soon"), 2, 'a duration such as "1h"'),
        (("--to", "up", "--since", "2999-01-01"), 2, "is in the future: give a time in the past"),
        (("--to", "nobody", "--since", "1h"), 1, "there is no destination 'nobody'"),
        (("--to", "left", "--since", "1h"), 1, "not in the configuration"),
    ],
)
def test_wrong_usage_says_what_is_right(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    nobody = {"endpoint": "http://127.0.0.1:1/v1/traces"}
    with Relay(tmp_path, {"up": nobody, "left": nobody}) as relay:
        relay.write_config({"up": nobody})
        assert relay.ask("POST", "/api/reload")[0] == 200
        shown = relay.run("replay", *arguments)

        assert shown.returncode == code
        assert words in shown.stderr


def test_new_destination_begins_at_the_time_it_is_given(tmp_path: Path) -> None:
    with MockCollector() as first, MockCollector() as second, MockCollector() as third:
        with Relay(tmp_path, {"first": {"endpoint": first.endpoint}}) as relay:
            old = post(relay)
            eventually(lambda: settled(relay, "first") and first.journal.spans())
            since = border()
            young = post(relay)
            eventually(lambda: first.journal.counts.spans_accepted == 6)
            for name, upstream, start in (("second", second, since), ("third", third, "1h")):
                added = relay.run(
                    "destination add", name, "--endpoint", upstream.endpoint, "--from", start
                )
                assert added.returncode == 0, added.stdout + added.stderr
            new = post(relay)

            for upstream in (first, second, third):
                eventually(lambda it=upstream: set(new) <= received(it).keys())  # type: ignore[misc]
            assert received(third) == Counter(old + young + new)
            assert received(second) == Counter(young + new)
            assert set(received(first)) == {*old, *young, *new}
            eventually(lambda: settled(relay, "second", "third"))
            wrong = relay.run(
                "destination add", "x", "--endpoint", first.endpoint, "--from", "soon"
            )
            assert wrong.returncode == 2
            assert "beginning, end, now" in wrong.stderr
