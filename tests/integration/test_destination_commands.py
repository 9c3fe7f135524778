"""`otlp-relay destination …` with a real relay and the mock collector: tested, saved, taken up."""

import http.client
import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mockcollector.received import ReceivedRequest
from mockcollector.server import MockCollector
from tests.support.destination_commands import (
    add,
    on_terminal,
    run,
    saved_file,
)
from tests.support.load import Load, arrived, request_of, span_ids
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

CANARY = "canary-5f1c-right"
WRONG = "canary-77aa-wrong"
AUTHORIZED = {"Authorization": f"Bearer {CANARY}"}
TYPED = ("--header", f"Authorization=Bearer {CANARY}")
REFERENCE = ("--header", "Authorization=Bearer ${env:UP_TOKEN}")


def post(relay: Relay, count: int = 3) -> list[str]:
    ids = span_ids(count)
    assert relay.post(request_of(ids))[0] == 200
    return ids


def control(relay: Relay, method: str, path: str, *, token: str | None = None) -> tuple[int, Any]:
    known = (relay.state_dir / "admin-token").read_text().strip()
    connection = http.client.HTTPConnection("127.0.0.1", relay.admin_port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {known if token is None else token}"}
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


# add


def test_add_with_the_right_token_saves_a_reference_and_spans_flow_at_once(tmp_path: Path) -> None:
    with MockCollector(required_headers=AUTHORIZED) as upstream:
        with Relay(tmp_path, environ={"UP_TOKEN": CANARY}) as relay:
            shown = run(
                relay,
                "add",
                "up",
                "--endpoint",
                upstream.endpoint,
                *REFERENCE,
                environ={"UP_TOKEN": CANARY},
            )
            assert shown.returncode == 0, shown.stderr
            ids = post(relay)
            upstream.journal.wait_for_spans(3, timeout=10)
            path = saved_file(relay, "up")

            assert arrived(upstream) == set(ids)
            assert "the running daemon has loaded it" in shown.stdout
            assert tomllib.loads(path.read_text()) == {
                "endpoint": upstream.endpoint,
                "headers": {"Authorization": "Bearer ${env:UP_TOKEN}"},
            }
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            for text in (shown.stdout, shown.stderr, path.read_text(), relay.log()):
                assert CANARY not in text


def test_add_with_a_wrong_token_saves_nothing_and_masks_the_words(tmp_path: Path) -> None:
    script = f"401:the token {WRONG} is unknown*"
    with MockCollector(script=script) as upstream, Relay(tmp_path) as relay:
        shown = run(
            relay,
            "add",
            "up",
            "--endpoint",
            upstream.endpoint,
            *REFERENCE,
            environ={"UP_TOKEN": WRONG},
        )

        assert shown.returncode == 1
        assert "is unknown" in shown.stdout + shown.stderr
        assert "nothing was saved" in shown.stderr
        assert not saved_file(relay, "up").parent.exists()
        assert relay.status()["destinations"] == []
        assert WRONG not in shown.stdout + shown.stderr + relay.log()


def test_add_loses_no_span_and_no_connection_of_the_destinations_there_are(tmp_path: Path) -> None:
    with MockCollector() as first, MockCollector() as second:
        with Relay(tmp_path, {"first": {"endpoint": first.endpoint}}) as relay:
            with Load(relay.ingest_port, senders=2) as load:
                load.wait_for_more(50)
                add(relay, "second", second)
                load.wait_for_more(50)
                eventually(lambda: arrived(second))
                assert run(relay, "remove", "second", "--drop-waiting").returncode == 0
                load.wait_for_more(50)
            eventually(lambda: load.acknowledged <= arrived(first))

            assert load.broken == 0
            assert set(load.statuses) == {200}
            assert first.journal.duplicate_spans == 0
            assert relay.destination("first")["state"] in {"idle", "delivering"}


def test_save_anyway_saves_what_fails_and_says_so_in_the_file(tmp_path: Path) -> None:
    script = f"401:go away {WRONG}\x1b[31m*"
    with MockCollector(script=script) as upstream, Relay(tmp_path) as relay:
        arguments = ("add", "up", "--endpoint", upstream.endpoint, *REFERENCE, "--save-anyway")
        shown = run(relay, *arguments, environ={"UP_TOKEN": WRONG})
        text = saved_file(relay, "up").read_text()

        assert shown.returncode == 0
        assert "did not pass" in shown.stdout
        assert "--save-anyway although the connection test did not pass" in text
        assert "go away" in text
        for each in (text, shown.stdout, shown.stderr):
            assert WRONG not in each
            assert "\x1b" not in each
        assert relay.destination("up")["endpoint"] == upstream.endpoint


def test_add_without_a_daemon_takes_effect_at_the_next_start(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        relay = Relay(tmp_path)
        shown = run(relay, "add", "up", "--endpoint", upstream.endpoint)
        assert shown.returncode == 0, shown.stderr
        assert "next start" in shown.stdout
        with relay:
            ids = post(relay)
            upstream.journal.wait_for_spans(3, timeout=10)

            assert arrived(upstream) == set(ids)


def test_add_tells_the_reason_when_the_daemon_refuses_the_reload(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        relay.write_config({}, '[enrich]\nattributes = { "a" = "${env:ONLY_HERE}" }')
        environ = {"ONLY_HERE": "x"}
        shown = run(relay, "add", "up", "--endpoint", upstream.endpoint, environ=environ)

        assert shown.returncode == 1
        assert "goes on as before" in shown.stderr
        assert "secret ${env:ONLY_HERE} is not set" in shown.stderr
        assert saved_file(relay, "up").exists()
        assert relay.status()["destinations"] == []


def test_add_says_so_when_the_daemon_reads_another_configuration(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        other = Relay(elsewhere)
        same = relay.config.read_text().replace('"state"', f'"{relay.state_dir}"')
        other.config.write_text(same)
        shown = run(other, "add", "up", "--endpoint", upstream.endpoint)

        assert shown.returncode == 1
        assert "reads another configuration" in shown.stderr


def test_add_says_that_only_the_daemon_lacks_the_secret(tmp_path: Path) -> None:
    with MockCollector(required_headers=AUTHORIZED) as upstream, Relay(tmp_path) as relay:
        arguments = ("add", "up", "--endpoint", upstream.endpoint, *REFERENCE)
        shown = run(relay, *arguments, environ={"UP_TOKEN": CANARY})
        reason = relay.destination("up")["reason"]

        assert shown.returncode == 1
        assert "saved in" in shown.stdout
        assert "cannot send yet: secret ${env:UP_TOKEN} is not set" in shown.stderr
        for each in (shown.stderr, reason):
            assert "the environment that the daemon is started with, then restart it" in each


def test_secret_that_is_not_set_here_is_not_tested_and_not_saved(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        relay = Relay(tmp_path)
        shown = run(relay, "add", "up", "--endpoint", upstream.endpoint, *REFERENCE)

        assert shown.returncode == 1
        assert "secret ${env:UP_TOKEN} is not set" in shown.stderr
        assert not saved_file(relay, "up").exists()
        assert upstream.journal.requests() == []


def test_typed_secret_is_saved_with_a_hint_and_printed_nowhere(tmp_path: Path) -> None:
    with MockCollector(required_headers=AUTHORIZED) as upstream, Relay(tmp_path) as relay:
        headers = json.dumps(AUTHORIZED)
        arguments = ("add", "up", "--endpoint", upstream.endpoint, "--headers", headers)
        shown = [run(relay, *arguments), run(relay, "list"), run(relay, "show", "up")]
        shown += [run(relay, "list", "--json"), run(relay, "show", "up", "--json")]

        assert [each.returncode for each in shown] == [0] * 5
        assert "${env:NAME}" in shown[0].stdout
        assert CANARY in saved_file(relay, "up").read_text()
        assert "Bearer ***" in shown[2].stdout
        for each in shown:
            assert CANARY not in each.stdout + each.stderr
        assert CANARY not in relay.log()


def test_encoding_that_passed_is_saved_where_json_is_refused(tmp_path: Path) -> None:
    with MockCollector(profile="phoenix", token="") as upstream:
        relay = Relay(tmp_path)
        add(relay, "up", upstream)

        assert tomllib.loads(saved_file(relay, "up").read_text())["encoding"] == "protobuf"


def test_add_as_json_prints_one_document_with_every_step(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        relay = Relay(tmp_path)
        shown = run(relay, "add", "up", "--endpoint", upstream.endpoint, "--json")
        document = json.loads(shown.stdout)

        assert document["saved"] == str(saved_file(relay, "up"))
        assert document["test"]["passed"] is True
        assert {"name", "state", "seconds", "found"} == document["test"]["steps"][0].keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["../up", "--endpoint", "http://127.0.0.1:1/v1/traces"], "invalid name"),
        (["up"], "--endpoint URL, or --preset NAME"),
        (["up", "--preset", "axiom"], "--header 'Authorization=Bearer …'"),
        (["up", "--endpoint", "127.0.0.1"], "endpoint"),
        (["up", "--endpoint", "http://127.0.0.1:1/v1/traces", "--hold", "x"], "hold"),
        (["up", "--endpoint", "http://127.0.0.1:1/v1/traces", "--header", "A=$x"], "dollar"),
    ],
)
def test_wrong_usage_ends_with_2_and_saves_nothing(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    relay = Relay(tmp_path)
    shown = run(relay, "add", *arguments, "--save-anyway")

    assert shown.returncode == 2
    assert words in shown.stderr
    assert not (tmp_path / "destinations.d").exists()


@pytest.mark.parametrize(("start", "gets_old"), [("beginning", True), ("end", False)])
def test_from_says_whether_kept_spans_are_for_the_new_one_too(
    tmp_path: Path, start: str, gets_old: bool
) -> None:
    with MockCollector() as first, MockCollector() as second:
        with Relay(tmp_path, {"first": {"endpoint": first.endpoint}}) as relay:
            old = post(relay)
            first.journal.wait_for_spans(3, timeout=10)
            add(relay, "second", second, "--from", start)
            new = post(relay)
            eventually(lambda: set(new) <= arrived(second))

            assert arrived(second) == {*(old if gets_old else []), *new}
            again = ("add", "second", "--endpoint", second.endpoint, "--replace", "--from", "end")
            assert "is for a new destination" in run(relay, *again).stderr


def test_from_without_a_daemon_is_refused(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        relay = Relay(tmp_path)
        shown = run(relay, "add", "up", "--endpoint", upstream.endpoint, "--from", "end")

        assert shown.returncode == 1
        assert "--from needs a running daemon" in shown.stderr
        assert not saved_file(relay, "up").exists()


# Names that are taken


def test_persons_files_are_never_rewritten_or_deleted(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        with Relay(tmp_path, {"main": {"endpoint": upstream.endpoint}}) as relay:
            mine = saved_file(relay, "mine")
            mine.parent.mkdir()
            mine.write_text(f'endpoint = "{upstream.endpoint}"\n')
            before = relay.config.read_bytes(), mine.read_bytes()
            endpoint = ("--endpoint", upstream.endpoint)
            for name, path in (("main", relay.config), ("mine", mine)):
                for arguments in (
                    ("add", name, *endpoint),
                    ("add", name, *endpoint, "--replace", "--save-anyway"),
                    ("remove", name, "--drop-waiting"),
                ):
                    shown = run(relay, *arguments)
                    assert shown.returncode == 1, arguments
                    assert str(path) in shown.stderr

            assert (relay.config.read_bytes(), mine.read_bytes()) == before


def test_replaced_header_takes_effect_on_the_next_request(tmp_path: Path) -> None:
    seen: list[str] = []

    def note(request: ReceivedRequest) -> None:
        seen.extend(value for name, value in request.headers if name.lower() == "x-run")

    with MockCollector(on_request=note) as upstream:
        with Relay(tmp_path) as relay:
            add(relay, "up", upstream, "--header", "X-Run=first")
            post(relay)
            upstream.journal.wait_for_spans(3, timeout=10)
            taken = run(relay, "add", "up", "--endpoint", upstream.endpoint)
            assert taken.returncode == 1
            assert "--replace" in taken.stderr
            add(relay, "up", upstream, "--header", "X-Run=second", "--replace")
            seen.clear()
            post(relay)
            upstream.journal.wait_for_spans(6, timeout=10)

            assert set(seen) == {"second"}


# pause, resume


def test_pause_survives_a_kill_and_resume_sends_what_waited(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        add(relay, "up", upstream)
        assert run(relay, "pause", "up").returncode == 0
        ids = post(relay)
        relay.kill()
        relay.start()
        ids += post(relay)
        assert relay.destination("up")["state"] == "paused"
        assert relay.destination("up")["waiting_spans"] == 6
        assert arrived(upstream) == set()
        shown = run(relay, "resume", "up")
        assert shown.returncode == 0, shown.stderr
        upstream.journal.wait_for_spans(6, timeout=10)
        relay.stop()
        relay.start()

        assert arrived(upstream) == set(ids)
        assert relay.destination("up")["state"] == "idle"


def test_paused_in_a_file_wins_over_resume(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        add(relay, "up", upstream, "--paused")
        post(relay)
        shown = run(relay, "resume", "up")

        assert shown.returncode == 1
        assert str(saved_file(relay, "up")) in shown.stderr
        assert relay.destination("up")["state"] == "paused"
        assert arrived(upstream) == set()


def test_resume_tries_a_blocked_destination_at_once(tmp_path: Path) -> None:
    with MockCollector(script="ok,401*2,ok*") as upstream, Relay(tmp_path) as relay:
        add(relay, "up", upstream)
        ids = post(relay)
        eventually(lambda: relay.destination("up")["state"] == "blocked")
        eventually(lambda: run(relay, "resume", "up").returncode == 0 and arrived(upstream))

        assert arrived(upstream) == set(ids)


def test_pause_without_a_daemon_says_who_keeps_it(tmp_path: Path) -> None:
    relay = Relay(tmp_path, {"up": {"endpoint": "http://127.0.0.1:1/v1/traces"}})
    shown = run(relay, "pause", "up")

    assert shown.returncode == 1
    assert "no daemon is running" in shown.stderr


# remove


def test_remove_asks_what_becomes_of_what_waits_and_keeps_it(tmp_path: Path) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/v1/traces"
    with Relay(tmp_path) as relay:
        assert run(relay, "add", "up", "--endpoint", endpoint, "--save-anyway").returncode == 0
        ids = post(relay)
        asked = run(relay, "remove", "up")
        assert asked.returncode == 2
        assert "3 spans still wait" in asked.stderr
        assert saved_file(relay, "up").exists()
        kept = run(relay, "remove", "up", "--keep-waiting")
        assert kept.returncode == 0, kept.stderr
        assert not saved_file(relay, "up").exists()
        assert relay.status()["destinations"] == []
        relay.stop()
        relay.start()
        with MockCollector(port=port) as upstream:
            add(relay, "up", upstream)
            upstream.journal.wait_for_spans(3, timeout=10)

            assert arrived(upstream) == set(ids)


def test_paused_one_that_is_removed_and_added_again_is_paused_no_more(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        add(relay, "up", upstream)
        assert run(relay, "pause", "up").returncode == 0
        ids = post(relay)
        assert run(relay, "remove", "up", "--keep-waiting").returncode == 0
        ids += post(relay)  # while there is no destination of that name: kept for it, too
        add(relay, "up", upstream)
        upstream.journal.wait_for_spans(6, timeout=10)

        assert arrived(upstream) == set(ids)


def test_removed_with_drop_gets_nothing_from_before(tmp_path: Path) -> None:
    with MockCollector() as other, MockCollector() as upstream:
        with Relay(tmp_path, {"other": {"endpoint": other.endpoint}}) as relay:
            add(relay, "up", upstream)
            assert run(relay, "pause", "up").returncode == 0
            post(relay)
            shown = run(relay, "remove", "up", "--drop-waiting")
            assert "3 spans that waited for up were dropped" in shown.stdout
            relay.stop()
            relay.start()
            add(relay, "up", upstream)
            ids = post(relay)
            eventually(lambda: set(ids) <= arrived(upstream))

            assert arrived(upstream) == set(ids)


def test_kept_ranges_of_a_removed_one_can_be_dropped_later(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        add(relay, "up", upstream)
        assert run(relay, "pause", "up").returncode == 0
        post(relay)
        assert run(relay, "remove", "up", "--keep-waiting").returncode == 0
        assert control(relay, "GET", "/api/destinations/up")[1]["waiting_spans"] == 3
        shown = run(relay, "remove", "up", "--drop-waiting")

        assert shown.returncode == 0, shown.stderr
        assert control(relay, "GET", "/api/destinations/up")[0] == 404
        assert run(relay, "remove", "up", "--drop-waiting").returncode == 1


def test_remove_without_a_daemon_deletes_the_file_and_drops_nothing(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        relay = Relay(tmp_path)
        add(relay, "up", upstream)
        refused = run(relay, "remove", "up", "--drop-waiting")
        assert refused.returncode == 1
        assert saved_file(relay, "up").exists()
        shown = run(relay, "remove", "up")

        assert shown.returncode == 0
        assert not saved_file(relay, "up").exists()
        assert "stays in the buffer" in shown.stdout


# list, show


def test_list_and_show_need_no_daemon_and_tell_where_each_is_saved(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        relay = Relay(tmp_path, {"main": {"endpoint": "http://u:p4ss@127.0.0.1:1/x?k=k3y"}})
        add(relay, "up", upstream, "--timeout", "7s", "--max-batch-spans", "5")
        listed, shown = run(relay, "list"), run(relay, "show", "up")
        main = json.loads(run(relay, "show", "main", "--json").stdout)

        for word in ("main", "up", upstream.endpoint, str(relay.config), "no daemon responds"):
            assert word in listed.stdout
        assert "p4ss" not in listed.stdout + json.dumps(main)
        assert "k3y" not in listed.stdout + json.dumps(main)
        assert "timeout          7s" in shown.stdout
        assert "max_batch_items  5" in shown.stdout
        assert main["is_saved_by_command"] is False
        assert run(relay, "show", "mian").returncode == 1
        assert "did you mean main?" in run(relay, "show", "mian").stderr


def test_list_shows_the_state_of_a_running_daemon(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        add(relay, "up", upstream)
        assert run(relay, "pause", "up").returncode == 0
        (found,) = json.loads(run(relay, "list", "--json").stdout)["destinations"]

        assert (found["name"], found["state"]) == ("up", "paused")
        assert found["source"] == str(saved_file(relay, "up"))


# On a terminal


def test_terminal_is_asked_for_what_the_preset_needs_and_echoes_no_token(tmp_path: Path) -> None:
    with MockCollector(profile="axiom", token=CANARY) as upstream:
        relay = Relay(tmp_path)
        arguments = ["add", "ax", "--preset", "axiom", "--endpoint", upstream.endpoint]
        answers = [("(xaat-…): ", CANARY), ("X-Axiom-Dataset: ", "traces")]
        answers += [("Also send logs there? [y/N]: ", "")]
        code, screen = on_terminal(relay, arguments, answers)

        assert code == 0, screen
        assert CANARY not in screen
        assert tomllib.loads(saved_file(relay, "ax").read_text()) == {
            "preset": "axiom",
            "endpoint": upstream.endpoint,
            "headers": {"Authorization": f"Bearer {CANARY}", "X-Axiom-Dataset": "traces"},
        }


def test_terminal_is_asked_for_the_parts_of_an_endpoint(tmp_path: Path) -> None:
    relay = Relay(tmp_path)
    arguments = ["add", "j", "--preset", "jaeger", "--save-anyway", "--timeout", "2s"]
    code, screen = on_terminal(relay, arguments, [("a number", "1"), ("host in", "127.0.0.1")])

    assert code == 0, screen
    table = tomllib.loads(saved_file(relay, "j").read_text())
    assert table["endpoint"] == "http://127.0.0.1:4318/v1/traces"


def test_terminal_is_asked_what_becomes_of_what_waits(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        add(relay, "up", upstream)
        assert run(relay, "pause", "up").returncode == 0
        post(relay)
        code, screen = on_terminal(relay, ["remove", "up"], [("or drop them?", "drop")])

        assert code == 0, screen
        assert control(relay, "GET", "/api/destinations/up")[0] == 404


# The admin API


def test_control_api_needs_the_token_and_tells_what_is_wrong(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        one = "/api/destinations/up"
        changes = [("POST", "/api/reload"), ("DELETE", f"{one}?waiting=drop")]
        changes += [("POST", f"{one}/pause"), ("POST", f"{one}/resume"), ("GET", one)]
        for method, path in changes:
            assert control(relay, method, path, token="wrong")[0] == 401, path

        assert control(relay, "POST", "/api/reload")[0] == 200
        assert control(relay, "POST", "/api/reload?start=up:middle")[0] == 400
        assert control(relay, "DELETE", one)[0] == 400
        for method, path in changes[1:]:
            assert control(relay, method, path)[0] == 404, path
        assert control(relay, "GET", f"{one}/pause")[0] == 404
        relay.config.write_text(relay.config.read_text() + "\nnonsense = 1\n")
        status, found = control(relay, "POST", "/api/reload")
        assert status == 409
        assert "nonsense" in found["error"]


def test_removal_of_what_still_stands_in_a_file_is_refused(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        with Relay(tmp_path, {"up": {"endpoint": upstream.endpoint}}) as relay:
            status, found = control(relay, "DELETE", "/api/destinations/up?waiting=drop")
            ids = post(relay)
            upstream.journal.wait_for_spans(3, timeout=10)

            assert status == 409
            assert str(relay.config) in found["error"]
            assert arrived(upstream) == set(ids)
