"""`otlp-relay genai` against a real relay: what fixtures of agents say, asked of the daemon and of
its files.
"""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from relay.model.records import Signal
from tests.support.builders import request, span, text_attribute
from tests.support.fixtures import FOLDER
from tests.support.relay_process import Relay

CLAUDE = "00000000-0000-4000-8000-0000000000cc"


def names() -> list[str]:
    """Fixtures with a summary."""
    return [
        path.name.removesuffix(".expect.json")
        for path in sorted(FOLDER.glob("*.expect.json"))
        if "summary" in json.loads(path.read_text())
    ]


def summary(name: str) -> dict[str, Any]:
    found = dict(json.loads((FOLDER / f"{name}.expect.json").read_text())["summary"])
    del found["rules"]
    return found


def post(relay: Relay, name: str) -> None:
    for signal in Signal:
        for path in (FOLDER / f"{name}.{signal.word}.json", FOLDER / f"{name}.json"):
            if path.exists() and (signal is Signal.TRACES or signal.word in path.name):
                connection = http.client.HTTPConnection("127.0.0.1", relay.ingest_port, timeout=20)
                headers = {"Content-Type": "application/json"}
                connection.request("POST", f"/v1/{signal.word}", path.read_bytes(), headers)
                assert connection.getresponse().status == 200, name
                connection.close()


def document(relay: Relay, *arguments: str) -> dict[str, Any]:
    shown = relay.run("genai", "--json", *arguments)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return dict(json.loads(shown.stdout))


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with MockCollector() as there:
        signals = [signal.word for signal in Signal]
        own = Relay(tmp_path, {"there": {"endpoint": there.endpoint, "signals": signals}})
        with own:
            yield own


def test_summaries_of_one_agent_after_another_grow_as_the_fixtures_say(relay: Relay) -> None:
    calls = input_tokens = 0
    for name in names():
        post(relay, name)
        wanted = summary(name)
        is_told_again = name.startswith(("71", "72"))  # the session of 70 once more
        calls += 0 if is_told_again else wanted["calls"]
        input_tokens += 0 if is_told_again else wanted["input_tokens"]
        found = document(relay)
        assert (found["calls"], found["input_tokens"]) == (calls, input_tokens), name
        if not is_told_again:
            assert {model: found["models"][model] for model in wanted["models"]} == wanted["models"]
        assert found["looked"]["is_complete"]
    assert calls >= 9


@pytest.mark.parametrize("name", names())
def test_json_has_the_keys_of_the_fixture_s_summary(relay: Relay, name: str) -> None:
    post(relay, name)

    found = document(relay)

    wanted = summary(name)
    assert {key: found[key] for key in wanted} == wanted


def test_session_by_daemon_and_files_and_what_is_hidden(relay: Relay) -> None:
    for name in names():
        post(relay, name)

    live = document(relay, "--session", CLAUDE)
    by_user = relay.run("genai", "--by", "user")
    shown = relay.run("genai", "--by", "user", "--show-personal")
    text = relay.run("genai", "--session", CLAUDE)
    unknown = relay.run("genai", "--session", "nobody's")
    since = document(relay, "--since", "2026-11-01", "--by", "tool")
    relay.stop()
    at_rest = document(relay, "--session", CLAUDE)

    kinds = ["prompt", "call", "call", "tool", "tool", "refusal", "call", "error"]
    assert [entry["kind"] for entry in live["entries"]] == kinds
    assert {**at_rest, "looked": None} == {**live, "looked": None}
    assert "dev@example.com" not in by_user.stdout
    assert "dev@example.com" in shown.stdout
    assert "cost     $0.0349 as the sender says" in text.stdout
    assert "refused" in text.stdout
    assert unknown.returncode == 1
    assert "nothing is known of session nobody's" in unknown.stdout
    assert {row["name"] for row in since["groups"]} >= {"Read", "Bash", "grep"}


def test_what_is_asked_wrongly_is_told(relay: Relay) -> None:
    for query, words in (
        ("by=colour", "by must be model"),
        ("since=yesterday", "since must be NANOSECONDS"),
        ("seconds=0", "seconds must be a number from 1"),
        ("personal=perhaps", "personal must be true or false"),
    ):
        status, found = relay.get(f"/api/genai?{query}")
        assert status == 400
        assert words in found["error"], query
    status, found = relay.get("/api/genai/sessions/none")
    assert (status, found["looked"]["is_complete"]) == (404, True)


def test_names_that_command_a_terminal_are_shown_as_text(relay: Relay) -> None:
    hostile = "\x1b[2J<script>alert(1)</script>\u202e"
    values = {"gen_ai.operation.name": "chat", "gen_ai.request.model": hostile}
    values |= {"session.id": hostile, "gen_ai.tool.name": hostile, "error.type": hostile}
    tool = values | {"gen_ai.operation.name": "execute_tool"}
    made = request(
        span(attributes=[text_attribute(*each) for each in values.items()]),
        span(spanId="c" * 16, attributes=[text_attribute(*each) for each in tool.items()]),
    )
    assert relay.post(made)[0] == 200

    for arguments in (("--by", "model"), ("--by", "tool"), ("--session", hostile)):
        shown = relay.run("genai", *arguments)
        assert shown.returncode == 0
        assert "<script>" in shown.stdout
        assert "\x1b" not in shown.stdout
        assert "\u202e" not in shown.stdout


def test_it_is_behind_the_token(relay: Relay) -> None:
    for path in ("/api/genai", "/api/genai/sessions/x"):
        connection = http.client.HTTPConnection("127.0.0.1", relay.admin_port, timeout=20)
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 401
        assert b"calls" not in response.read()
        connection.close()
