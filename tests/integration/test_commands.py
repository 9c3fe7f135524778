"""Every command once as a process of its own: most tests run them in the process of the test."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mockcollector.server import MockCollector
from relay.cli import main
from tests.support.builders import request, span
from tests.support.relay_process import COVERED, SERVED, Relay

TRACE = "0af7651916cd43dd8448eb211c80319c"
NOBODY = ("--endpoint", "http://127.0.0.1:1/v1/traces")
# Name, further arguments, exit code, and what it says in any case.
EVERY_COMMAND: list[tuple[str, tuple[str, ...], int, str]] = [
    ("check-config", (), 0, "up"),
    ("config test", ("{folder}/request.json", "--to", "up"), 0, "1 of 1 span would be sent to up"),
    ("status", (), 0, "up"),
    ("send-test-trace", ("--wait", "20s"), 0, "delivered"),
    ("where", (TRACE,), 0, f"trace {TRACE}"),
    ("genai", (), 0, "nothing of models or agents is kept"),
    ("replay", ("--to", "up", "--since", "1h"), 0, "will be sent to up again"),
    ("doctor", (), 1, "passed, in json"),  # it says that a request was refused
    ("destination test", ("up",), 0, "passed, in json"),
    ("destination list", (), 0, "up"),
    ("destination show", ("up",), 0, "endpoint"),
    ("destination add", ("new", *NOBODY, "--save-anyway"), 0, "did not pass"),
    ("destination pause", ("new",), 0, "new"),
    ("destination resume", ("new",), 0, "new"),
    ("destination remove", ("new", "--drop-waiting"), 0, "new"),
    ("dead-letter list", (), 0, "trace_id_malformed"),
    ("dead-letter show", ("1",), 0, "order-4711"),
    ("dead-letter export", (), 0, "order-4711"),
    ("dead-letter replay", ("--all", "--derive-ids"), 0, "replayed 1 dead letter"),
    ("dead-letter discard", ("--all", "--yes"), 0, "discarded 0 dead letters"),
    ("buffer check", (), 0, "sound"),
    ("buffer export", (), 0, TRACE),
    ("buffer snapshot", ("{folder}/copy",), 0, "copy"),
    ("fleet status", (), 1, "there is no [fleet] in the configuration"),
    ("fleet import", (), 1, "there is no [fleet] in the configuration"),
    ("point", ("goose",), 0, "export OTEL_EXPORTER_OTLP_ENDPOINT=http://"),
    ("tail", ("--no-follow", "--last", "5"), 0, ""),
]


def names_of(group: click.Group, before: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from names_of(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def test_table_names_every_command() -> None:
    # `top` and a browser are tested by themselves.
    others = {"serve", "destination presets", "config example", "completion", "top", "open"}
    assert {name for name, *_ in EVERY_COMMAND} | others == set(names_of(main))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("destination presets", "axiom"),
        ("config example", "[ingest]"),
        ("completion bash", "_OTLP_RELAY_COMPLETE"),
    ],
)
def test_process_needs_no_configuration(typed: str, words: str) -> None:
    command = [sys.executable, *SERVED, *typed.split()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=COVERED)

    assert words in shown.stdout


def test_every_command_does_its_work_as_a_process(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        destinations = {"up": {"endpoint": upstream.endpoint}}
        with Relay(tmp_path, destinations, command=SERVED) as relay:
            assert relay.post(request(span(traceId=TRACE)))[0] == 200
            assert relay.post(request(span(traceId="order-4711")))[0] == 400
            (tmp_path / "request.json").write_text(json.dumps(request(span(traceId=TRACE))))
            for name, arguments, code, words in EVERY_COMMAND:
                filled = [each.format(folder=tmp_path) for each in arguments]
                shown = relay.run(name, *filled, has_process=True)
                told = shown.stdout + shown.stderr

                assert shown.returncode == code, f"{name}: {told}"
                assert words in told, f"{name}: {told}"
                assert "Traceback" not in told
