"""`otlp-relay dead-letter …` with a real relay: refused, looked at, sent again, erased."""

import base64
import json
import os
import pty
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from mockcollector.server import MockCollector
from relay.buffer.sqlite.rows import zstd_1
from tests.support.builders import protobuf_twin, request, span, text_attribute, to_body
from tests.support.relay_process import Relay, eventually

GOOD, REFUSED, OTHER = "a" * 32, "b" * 32, "c" * 32
MALFORMED = "app_trace_001"
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def named(trace_id: str, number: int = 1, **members: Any) -> dict[str, Any]:
    return span(traceId=trace_id, spanId=f"{number:016x}", name=f"{trace_id}/{number}", **members)


def letters(relay: Relay) -> dict[str, int]:
    found: dict[str, int] = relay.status()["buffer"]["dead_letters_by_destination"]
    return found


def refuse_one(
    relay: Relay, upstream: MockCollector, script: str = "partial=1:no room in dataset 17"
) -> None:
    """A span that upstream refuses for good, and no other after it.

    By a partial success, since that takes no probing.
    """
    before = letters(relay).get("mock", 0)
    upstream.script.replace(script)
    assert relay.post(request(named(REFUSED))) == (200, b"{}")
    eventually(lambda: letters(relay).get("mock", 0) == before + 1, what="the dead letter")
    upstream.script.clear()


def names(upstream: MockCollector) -> Counter[str]:
    return Counter(found.name for found in upstream.journal.spans())


@contextmanager
def two_destinations(
    tmp_path: Path, *, settings: str = "", **more: Any
) -> Iterator[tuple[Relay, Any, Any]]:
    with MockCollector() as upstream, MockCollector() as other:
        destinations = {
            "mock": {"endpoint": upstream.endpoint, **more},
            "other": {"endpoint": other.endpoint},
        }
        with Relay(tmp_path, destinations, settings=settings) as relay:
            yield relay, upstream, other


def run_json(relay: Relay, *arguments: str, code: int = 0) -> Any:
    done = relay.run(*arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


# -- looking ----------------------------------------------------------------------------------


@pytest.mark.proofs  # waits for a probe of the relay
def test_list_tells_who_refused_what_when_and_in_which_words(tmp_path: Path) -> None:
    with two_destinations(tmp_path) as (relay, upstream, _other):
        refuse_one(relay, upstream, "413*:body=no room in dataset 17")
        assert relay.post(request(named(MALFORMED), named(MALFORMED, 2)))[0] == 400

        found = run_json(relay, "dead-letter list")
        by_name = {group["destination"]: group for group in found["groups"]}
        assert (found["letters"], found["spans"]) == (3, 3)
        assert by_name["mock"]["words"] == "no room in dataset 17"
        assert (by_name["mock"]["status"], by_name["mock"]["reason"]) == (413, "too_large")
        assert by_name["ingest"]["letters"] == 2
        assert by_name["ingest"]["first_at"] <= by_name["ingest"]["last_at"]

        text = relay.run("dead-letter list").stdout
        assert "no room in dataset 17" in text
        assert f"trace id {MALFORMED}" in text
        one_each = run_json(relay, "dead-letter list", "--all", "--destination", "mock")
        (letter,) = one_each["letters"]
        assert letter["trace_ids"] == [REFUSED]
        assert run_json(relay, "dead-letter list", "--trace", OTHER)["groups"] == []
        assert run_json(relay, "dead-letter list", "--trace", MALFORMED)["letters"] == 2
        assert run_json(relay, "dead-letter list", "--since", "1h")["letters"] == 3
        assert len(run_json(relay, "dead-letter list", "--all", "--limit", "2")["letters"]) == 2


def test_show_tells_everything_and_the_spans(tmp_path: Path) -> None:
    with two_destinations(tmp_path) as (relay, upstream, _other):
        refuse_one(relay, upstream)
        (letter,) = run_json(relay, "dead-letter list", "--all")["letters"]

        found = run_json(relay, "dead-letter show", str(letter["id"]))
        (entry,) = found["resourceSpans"]
        assert entry["scopeSpans"][0]["spans"][0]["traceId"] == REFUSED
        assert found["received_at"] <= found["set_aside_at"]
        text = relay.run("dead-letter show", str(letter["id"])).stdout
        assert "no room in dataset 17" in text
        assert f"{REFUSED}/1" in text
        missing = relay.run("dead-letter show", "4711")
        assert (missing.returncode, missing.stdout) == (1, "")
        assert "there is no dead letter 4711" in missing.stderr


# -- sending again ----------------------------------------------------------------------------


def test_replay_goes_to_the_destination_that_refused_and_to_no_other(tmp_path: Path) -> None:
    with two_destinations(tmp_path) as (relay, upstream, other):
        refuse_one(relay, upstream)
        other.journal.wait_for_spans(1)
        assert names(upstream)[f"{REFUSED}/1"] == 0

        done = run_json(relay, "dead-letter replay", "--destination", "mock")
        assert (done["letters"], done["spans"]) == (1, 1)
        assert done["spans_by_destination"] == {"mock": 1}
        upstream.journal.wait_for_spans(1)
        assert names(upstream)[f"{REFUSED}/1"] == 1
        assert names(other)[f"{REFUSED}/1"] == 1
        assert letters(relay) == {}
        assert relay.run("dead-letter replay", "--all").stdout == "no dead letter matches\n"


def test_what_is_refused_again_is_a_new_letter_that_this_replay_leaves_alone(
    tmp_path: Path,
) -> None:
    with two_destinations(tmp_path) as (relay, upstream, _other):
        refuse_one(relay, upstream)
        upstream.script.replace("partial=1:still not")
        assert run_json(relay, "dead-letter replay", "--all")["letters"] == 1

        def again() -> list[dict[str, Any]]:
            return list(run_json(relay, "dead-letter list")["groups"])

        (group,) = eventually(again, what="the new letter")
        assert group["words"] == "1 of 1 refused, not known which: still not"


def test_replay_to_another_destination_and_of_one_that_is_gone(tmp_path: Path) -> None:
    with two_destinations(tmp_path) as (relay, upstream, other):
        refuse_one(relay, upstream)
        other.journal.wait_for_spans(1)
        relay.write_config({"other": {"endpoint": other.endpoint}})
        relay.ask("POST", "/api/reload")

        done = run_json(relay, "dead-letter replay", "--all", code=1)
        assert done["letters"] == 0
        assert "--to" in done["stayed"][0]["why"]
        wrong = relay.run("dead-letter replay", "--all", "--to", "nobody")
        assert wrong.returncode == 1
        assert "known destinations: other" in wrong.stderr
        assert letters(relay) == {"mock": 1}

        assert run_json(relay, "dead-letter replay", "--all", "--to", "other")["letters"] == 1
        eventually(lambda: names(other)[f"{REFUSED}/1"] == 2)
        assert letters(relay) == {}


@pytest.mark.parametrize("come_in", ["json", "protobuf"])
def test_spans_refused_on_the_way_in_go_to_all_once_their_ids_are_derived(
    tmp_path: Path, come_in: str
) -> None:
    settings = '[enrich]\nattributes = { "env" = "test" }'
    with two_destinations(tmp_path, settings=settings) as (relay, upstream, other):
        bad = request(named(MALFORMED), named("0" * 32, 2))
        if come_in == "json":
            relay.post(bad)
        else:
            relay.post(protobuf_twin(bad).SerializeToString(), headers=PROTOBUF)
        assert letters(relay) == {"ingest": 2}

        refused = relay.run("dead-letter replay", "--all")
        assert refused.returncode == 1
        assert "--derive-ids" in refused.stderr
        assert "no id can be derived from that" in refused.stderr
        assert letters(relay) == {"ingest": 2}

        done = run_json(relay, "dead-letter replay", "--all", "--derive-ids", code=1)
        assert (done["letters"], len(done["stayed"])) == (1, 1)
        for each in (upstream, other):
            (found,) = each.journal.wait_for_spans(1)
            assert found.attributes["relay.original_trace_id"] == MALFORMED
            assert len(found.trace_id) == 32
            # Of this host nothing is said: nobody knows any more who sent it.
            assert found.resource.attributes == {"env": "test", "service.name": "shop"}
        assert letters(relay) == {"ingest": 1}


def test_span_that_could_not_be_read_is_kept_as_it_was_sent_and_not_replayed(
    tmp_path: Path,
) -> None:
    flawed = span(startTimeUnixNano="2026-01-01T00:00:00Z", traceId=OTHER)
    with two_destinations(tmp_path) as (relay, upstream, _):
        status, told = relay.post(request(named(GOOD), flawed))
        assert status == 200
        assert json.loads(told)["partialSuccess"]["rejectedSpans"] == "1"
        eventually(lambda: names(upstream) == {f"{GOOD}/1": 1}, what="the good span")

        only = relay.run("dead-letter export", "--destination", "ingest").stdout
        (line,) = only.splitlines()
        assert json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"] == [flawed]
        assert "resourceSpans[0].scopeSpans[0].spans[1].startTimeUnixNano" in (
            relay.run("where", OTHER).stdout
        )
        replayed = relay.run("dead-letter replay", "--all")
        assert replayed.returncode == 1
        assert "a member that cannot be read: export it, correct it" in replayed.stderr
        assert letters(relay) == {"ingest": 1}


def test_of_a_partial_success_all_spans_go_again_and_that_is_said(tmp_path: Path) -> None:
    with two_destinations(tmp_path) as (relay, upstream, _other):
        upstream.script.replace("partial=1:bad names")
        relay.post(request(named(GOOD), named(GOOD, 2), named(GOOD, 3)))
        eventually(lambda: letters(relay) == {"mock": 1})

        done = relay.run("dead-letter replay", "--all")
        assert done.returncode == 0
        assert done.stdout == "replayed 1 dead letter: 3 spans to mock\n"
        assert "the upstream did not say which 1 of 3 spans it refused" in done.stderr
        eventually(lambda: names(upstream)[f"{GOOD}/3"] == 1)
        assert names(upstream)[f"{GOOD}/1"] == 2


def test_what_was_too_old_is_sent_when_a_person_asks_for_it(tmp_path: Path) -> None:
    with two_destinations(tmp_path, max_age="1s") as (relay, upstream, _other):
        upstream.script.replace("503*")
        relay.post(request(named(GOOD)))
        (group,) = eventually(
            lambda: run_json(relay, "dead-letter list")["groups"], what="the letter"
        )
        assert group["reason"] == "too_old"
        upstream.script.clear()
        relay.run("destination resume", "mock")

        assert run_json(relay, "dead-letter replay", "--reason", "too_old")["letters"] == 1
        upstream.journal.wait_for_spans(1)
        found = relay.get(f"/api/traces/{GOOD}")[1]
        assert {received["received_at"] for received in found["received"]} == {
            found["received"][0]["received_at"]
        }


def test_kept_letters_stay_and_are_sent(tmp_path: Path) -> None:
    with two_destinations(tmp_path) as (relay, upstream, _other):
        refuse_one(relay, upstream)
        assert run_json(relay, "dead-letter replay", "--all", "--keep")["letters"] == 1
        upstream.journal.wait_for_spans(1)
        assert letters(relay) == {"mock": 1}


@pytest.mark.proofs
@pytest.mark.timeout(180)
def test_relay_killed_amid_long_replays_neither_loses_a_letter_nor_sends_one_twice(
    tmp_path: Path,
) -> None:
    """The destination is paused meanwhile, so nothing is in flight: exactly once is the claim."""
    total = 6000
    with MockCollector() as upstream:
        destinations = {"mock": {"endpoint": upstream.endpoint}}
        with Relay(tmp_path, destinations) as relay:
            for first in range(0, total, 500):
                numbers = range(first + 1, first + 501)
                assert relay.post(request(*(named(MALFORMED, n) for n in numbers)))[0] == 400
            assert letters(relay) == {"ingest": total}
            assert relay.run("destination pause", "mock").returncode == 0
            for _ in range(3):
                before = letters(relay)["ingest"]
                ends: list[subprocess.CompletedProcess[str]] = []
                replaying = threading.Thread(
                    target=lambda ends=ends: ends.append(
                        relay.run(
                            *("dead-letter replay", "--all", "--derive-ids", "--json"),
                            has_process=True,  # it is asked beside this thread
                        )
                    )
                )
                replaying.start()
                eventually(lambda n=before: letters(relay).get("ingest", 0) < n)  # type: ignore[misc]
                relay.kill()
                replaying.join()
                assert ends[0].returncode == 1, ends[0].stdout
                assert json.loads(ends[0].stdout)["error"]
                relay.start()
                left = letters(relay).get("ingest", 0)
                assert left < before
                assert relay.destination("mock")["waiting_spans"] == total - left
            done = run_json(relay, "dead-letter replay", "--all", "--derive-ids")
            assert done["letters"] == left > 0
            relay.run("destination resume", "mock")
            upstream.journal.wait_for_spans(total, timeout=60)
            eventually(lambda: relay.destination("mock")["waiting_spans"] == 0)

    assert len(upstream.journal.spans()) == total
    assert len({found.span_id for found in upstream.journal.spans()}) == total


def test_long_replay_shows_how_far_it_is_on_a_terminal_and_nothing_in_a_pipe(
    tmp_path: Path,
) -> None:
    with two_destinations(tmp_path) as (relay, _upstream, _other):
        relay.post(request(*(named(MALFORMED, n) for n in range(1, 20))))
        options = ("--all", "--derive-ids", "--keep")
        assert relay.run("dead-letter replay", *options).stderr == ""
        done, shown = on_terminal(relay, "dead-letter", "replay", *options)

        assert done == 0
        assert "replaying" in shown
        assert "19/19" in shown
        assert "replayed 19 dead letters" in shown


def on_terminal(relay: Relay, *arguments: str, answer: bytes = b"") -> tuple[int, str]:
    """Exit code and all that is shown, where input and output are a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "relay.cli", *arguments, "--config", str(relay.config)]
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    os.write(ours, answer)
    shown = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not read:
            break
        shown += read
    os.close(ours)
    return process.wait(timeout=30), shown.decode()


# -- exporting --------------------------------------------------------------------------------


def test_export_is_lines_that_any_receiver_takes(tmp_path: Path) -> None:
    with two_destinations(tmp_path) as (relay, upstream, _other):
        refuse_one(relay, upstream)
        upstream.script.replace("partial=1:no")
        twin = protobuf_twin(
            request(named(OTHER, attributes=[text_attribute("k", "zwei\nZeilen")]))
        )
        relay.post(twin.SerializeToString(), headers=PROTOBUF)
        eventually(lambda: letters(relay) == {"mock": 2})
        relay.post(request(named(MALFORMED)))
        output = tmp_path / "letters.jsonl"
        done = run_json(relay, "dead-letter export", "--output", str(output))

        assert done["letters"] == 3
        assert output.stat().st_mode & 0o777 == 0o600
        lines = output.read_bytes().splitlines()
        assert relay.run("dead-letter export").stdout.encode() == output.read_bytes()
        traces = [
            json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"]
            for line in lines
        ]
        assert sorted(traces) == sorted([REFUSED, OTHER, MALFORMED])
        with (
            MockCollector() as receiver,
            Relay(
                make_folder(tmp_path / "second"), {"mock": {"endpoint": receiver.endpoint}}
            ) as second,
        ):
            answers = [second.post(line)[0] for line in lines]
            assert Counter(answers) == {200: 2, 400: 1}
            receiver.journal.wait_for_spans(2)
            receiver.journal.assert_span(trace_id=OTHER, attributes={"k": "zwei\nZeilen"})
        again = relay.run("dead-letter export", "--output", str(output))
        assert again.returncode == 1
        assert "exists" in again.stderr
        only = relay.run("dead-letter export", "--destination", "ingest").stdout
        assert only.count("\n") == 1
        assert relay.run("dead-letter export", "--json").returncode == 2


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_damaged_row_is_neither_sent_nor_exported_and_its_bytes_can_be_seen(
    tmp_path: Path,
) -> None:
    with MockCollector(script="503*") as upstream:
        with Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint}}) as relay:
            relay.post(request(named(GOOD)))
            relay.stop()
            connection = apsw.Connection(str(relay.state_dir / "relay.db"))
            connection.execute("UPDATE rows SET checksum = checksum + 1")
            connection.close()
            relay.start()
            eventually(lambda: letters(relay) == {"mock": 1})

            refused = run_json(relay, "dead-letter replay", "--all", code=1)
            assert "wrong bytes are never sent" in refused["stayed"][0]["why"]
            assert refused["stayed"][0]["ids"] == [1]
            exported = relay.run("dead-letter export")
            assert (exported.returncode, exported.stdout) == (1, "")
            assert "damaged on disk" in exported.stderr
            found = run_json(relay, "dead-letter show", "1")
            assert (found["reason"], found["trace_ids"]) == ("damaged_on_disk", [GOOD])
            assert letters(relay) == {"mock": 1}


# -- dropping ---------------------------------------------------------------------------------


def test_discard_asks_on_a_terminal_and_wants_yes_elsewhere(tmp_path: Path) -> None:
    with two_destinations(tmp_path) as (relay, _upstream, _other):
        relay.post(request(named(MALFORMED), named(MALFORMED, 2)))

        unasked = relay.run("dead-letter discard", "--all")
        assert unasked.returncode == 2
        assert "--yes" in unasked.stderr
        code, shown = on_terminal(relay, "dead-letter", "discard", "--all", answer=b"n\n")
        assert code == 1
        assert "discard 2 dead letters (2 spans) for good?" in shown
        assert letters(relay) == {"ingest": 2}
        code, shown = on_terminal(relay, "dead-letter", "discard", "1", answer=b"y\n")
        assert code == 0
        assert letters(relay) == {"ingest": 1}
        done = relay.run("dead-letter discard", "1", "2", "--yes")
        assert (done.returncode, letters(relay)) == (1, {})
        assert done.stdout == "discarded 1 dead letter, 1 span\n"
        assert "there is no dead letter 1" in done.stderr


@pytest.mark.parametrize("keep", ["0s", "1h"])
def test_erased_letter_leaves_no_byte_in_any_file_of_the_running_relay(
    tmp_path: Path, keep: str
) -> None:
    secret = [text_attribute("prompt", "the quick brown secret")]
    with MockCollector() as upstream:
        settings = f'[buffer]\nkeep_delivered = "{keep}"'
        destinations = {"mock": {"endpoint": upstream.endpoint}}
        with Relay(tmp_path, destinations, settings=settings) as relay:
            upstream.script.replace("partial=1:a very particular refusal")
            relay.post(request(named(REFUSED, attributes=secret)))
            eventually(lambda: letters(relay) == {"mock": 1})
            body = json.dumps(run_json(relay, "dead-letter show", "1")["resourceSpans"][0])
            frame = zstd_1(to_body(json.loads(body)))[9:]
            marks = [frame, b"a very particular refusal"]
            if keep == "0s":
                eventually(lambda: relay.status()["buffer"]["rows"] == 0, what="retention")
            assert all(holds(relay.state_dir, mark) for mark in marks)

            done = relay.run("dead-letter discard", "--all", "--erase", "--yes")
            assert done.returncode == 0, done.stderr
            assert "none of their bytes is left" in done.stdout
            if keep == "0s":
                assert [holds(relay.state_dir, mark) for mark in marks] == [[], []]
                assert "rows of the log" not in done.stderr
            else:
                assert not holds(relay.state_dir, marks[1])
                assert "1 row of the log holds items of the same traces" in done.stderr
                assert "keep_delivered (1h)" in done.stderr
            relay.post(request(named(GOOD)))
            upstream.journal.wait_for_spans(1)


def holds(state_dir: Path, mark: bytes) -> list[str]:
    """The files that hold any stretch of `mark`."""
    pieces = [mark[at : at + 40] for at in range(0, max(len(mark) - 39, 1), 100)]
    return [
        path.name
        for path in sorted(state_dir.rglob("*"))
        if path.is_file() and any(piece in path.read_bytes() for piece in pieces)
    ]


# -- wrong usage ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("dead-letter replay",),
        ("dead-letter replay", "--all", "--reason", "x"),
        ("dead-letter replay", "zero"),
        ("dead-letter replay", "0"),
        ("dead-letter discard", "--yes"),
        ("dead-letter list", "--since", "yesterday"),
        ("dead-letter show",),
    ],
)
def test_wrong_usage_is_2_and_says_what_would_be_right(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = Relay(tmp_path).run(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Usage:" in done.stderr


def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    done = Relay(tmp_path).run("dead-letter list")
    assert done.returncode == 1
    assert "no daemon has run" in done.stderr


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_without_a_daemon_letters_are_read_from_its_file(tmp_path: Path, end: str) -> None:
    with two_destinations(tmp_path) as (relay, upstream, _other):
        refuse_one(relay, upstream)
        relay.post(request(named(MALFORMED)))
        asked = (("dead-letter list",), ("dead-letter list", "--all"), ("dead-letter show", "1"))
        online = [run_json(relay, *each) for each in asked]
        lines = relay.run("dead-letter export").stdout
        relay.kill() if end == "kill" else relay.stop()

        assert [run_json(relay, *each) for each in asked] == online
        exported = relay.run("dead-letter export")
        assert exported.stdout == lines
        assert "no daemon is running; read from its files" in exported.stderr
        assert relay.run("dead-letter show", "77").returncode == 1
        replayed = relay.run("dead-letter replay", "--all")
        assert replayed.returncode == 1
        assert "is `otlp-relay serve` running" in replayed.stderr
        relay.start()
        assert run_json(relay, "dead-letter list") == online[0]
        connection = apsw.Connection(str(relay.state_dir / "relay.db"))
        relay.stop()
        connection.pragma("user_version", 1)
        connection.close()
        refused = relay.run("dead-letter list")
        assert refused.returncode == 1
        assert "start the relay" in refused.stderr


@pytest.mark.parametrize(
    "path",
    [
        "/api/dead-letters?limit=0",
        "/api/dead-letters?id=x",
        "/api/dead-letters?since_ns=-1",
        "/api/dead-letters/99999999999999999999",
        "/api/dead-letters/groups?until=1e3",
    ],
)
def test_api_answers_400_to_what_it_cannot_understand(tmp_path: Path, path: str) -> None:
    with Relay(tmp_path) as relay:
        status, found = relay.get(path)
        assert status == 400, found
        assert relay.get(path, token="wrong")[0] == 401
        assert relay.ask("DELETE", "/api/dead-letters", token="wrong")[0] == 401


def test_base64_of_what_cannot_be_read(tmp_path: Path) -> None:
    """A row whose frame is damaged, too: `show` gives the bytes as they were found."""
    with MockCollector(script="503*") as upstream:
        with Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint}}) as relay:
            relay.post(request(named(GOOD)))
            relay.stop()
            connection = apsw.Connection(str(relay.state_dir / "relay.db"))
            connection.execute("UPDATE rows SET body = x'00010203'")
            connection.close()
            relay.start()
            eventually(lambda: letters(relay) == {"mock": 1})
            found = run_json(relay, "dead-letter show", "1")

    assert found["resourceSpans"] is None
    assert base64.b64decode(found["body_base64"]) == b"\x00\x01\x02\x03"


def test_how_many_were_given_up_is_told_everywhere_and_over_a_restart(tmp_path: Path) -> None:
    rng = random.Random(17)
    settings = '[buffer]\nmax_size = "1MiB"\nmin_free = "0B"'  # a tenth of it for dead letters
    with MockCollector(script="partial=1:the one to keep") as upstream:
        destinations = {"mock": {"endpoint": upstream.endpoint}}
        with Relay(tmp_path, destinations, settings=settings) as relay:
            relay.post(request(named(GOOD)))
            eventually(lambda: letters(relay) == {"mock": 1})
            for number in range(1, 61):
                noise = [text_attribute("noise", rng.randbytes(3000).hex())]
                relay.post(request(named(MALFORMED, number, attributes=noise)))
            eventually(lambda: relay.status()["buffer"]["dead_letters_dropped"] > 20)
            relay.kill()
            relay.start()
            for _ in range(2):  # the second is taken after the housekeeping behind the first
                assert relay.post(request(named(GOOD)))[0] == 200
            found = run_json(relay, "dead-letter list")
            dropped = found["dropped"]["ingest"]
            assert found["dropped"] == {"ingest": 60 - letters(relay)["ingest"]}
            assert letters(relay)["mock"] == 1
            assert f"evicted for space or age so far: {dropped} of ingest" in (
                relay.run("dead-letter list").stdout
            )
            assert f"({dropped} evicted for space or age)" in relay.run("status").stdout
            metrics = relay.get("/metrics", parse=False)[1]
            assert f"otlp_relay_dead_letters_dropped_total {float(dropped)}" in metrics
            assert 'otlp_relay_dead_letters_by_destination{destination="mock"} 1.0' in metrics


def test_whole_bodies_that_cannot_be_read_are_dead_letters_the_newest_few(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        for number in range(25):
            assert relay.post(b'{"resourceSpans": [}%d' % number)[0] == 400
        assert relay.post(b"no gzip", headers={"Content-Encoding": "gzip"})[0] == 400
        assert relay.post(b"\xff" * 80_000, headers=PROTOBUF)[0] == 400
        assert relay.post(request(span(traceId="0" * 32)))[0] == 400  # another kind
        listed = json.loads(relay.run("dead-letter list", "--all", "--json").stdout)["letters"]
        bodies = [each for each in listed if each["reason"] == "body_unreadable"]
        shown = [
            json.loads(relay.run("dead-letter show", str(each["id"]), "--json").stdout)
            for each in bodies[:3]
        ]
        text = relay.run("dead-letter show", str(bodies[2]["id"])).stdout
        table = relay.run("dead-letter list").stdout
        replayed = relay.run("dead-letter replay", "--reason", "body_unreadable")
        exported = relay.run("dead-letter export", "--reason", "body_unreadable")
        status = relay.status()

    assert len(bodies) == 20
    assert len(listed) == 21
    assert (bodies[0]["path"], bodies[0]["bytes"]) == ("the first 52,428 of 80,000 bytes", 52_428)
    assert (bodies[2]["spans"], bodies[2]["affected"], bodies[2]["status"]) == (0, 0, 400)
    assert base64.b64decode(shown[1]["body_base64"]) == b"no gzip"
    assert "gzip" in shown[1]["words"]
    assert base64.b64decode(shown[2]["body_base64"]) == b'{"resourceSpans": [}24'
    assert shown[2]["resourceSpans"] is None
    assert shown[2]["words"] in text
    assert "body_base64" in text
    assert "body_unreadable" in table
    assert replayed.returncode == exported.returncode == 1
    assert "could not be read" in replayed.stdout + replayed.stderr
    assert status["ingest"]["refused_bodies"]["times"] == 27
    assert status["buffer"]["dead_letters_dropped"] == 0
