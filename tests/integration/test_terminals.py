"""Every command at 80 columns, in a pipe, as JSON and on terminals of any encoding: nothing is
folded, padded or cut, and nothing crashes.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from relay.cli import main
from tests.integration.test_commands import names_of
from tests.support.builders import request, span
from tests.support.commands import run_here, run_on, run_on_terminal
from tests.support.ports import free_port
from tests.support.relay_process import COVERED, Relay, eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
LONG = "a-destination-with-quite-a-long-name"
TIME = re.compile(r"\d{4}-\d\d-\d\dT")
NUMBER = re.compile(r"\d+(\.\d+)?")

# What is typed, and whether it has `--json`. `{new}` is a file that is not there yet.
COMMANDS: list[tuple[str, bool]] = [
    ("check-config", True),
    ("status", True),
    (f"where {TRACE}", True),
    ("where 00000000000000000000000000000bad", True),
    ("where order-4711", True),
    ("doctor", True),
    ("destination list", True),
    (f"destination show {LONG}", True),
    (f"destination test {LONG}", True),
    ("destination presets", True),
    ("destination presets axiom", True),
    (f"destination pause {LONG}", True),
    (f"destination resume {LONG}", True),
    ("destination add up --endpoint http://127.0.0.1:1/v1/traces", True),
    ("destination remove nobody", True),
    ("dead-letter list", True),
    ("dead-letter list --all", True),
    ("dead-letter show 1", True),
    ("dead-letter export --output -", False),
    ("dead-letter replay 4711", True),
    ("dead-letter discard 4711 --yes", True),
    ("replay --to up --since 1h --dry-run", True),
    ("buffer check", True),
    ("buffer export --output -", False),
    ("buffer snapshot {new}", True),
    ("fleet status", True),
    ("fleet import", True),
    ("send-test-trace --wait 0s", True),
    ("genai", True),
    ("genai --by model", True),
    ("point --list", True),
    ("point claude-code", True),
    ("config example", False),
    ("config test {request} --to up", True),
    ("completion bash", False),
    ("tail --last 5 --no-follow", False),  # with `--json` a document a line
    ("open --print", False),
]


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One with everything that is long: names, URLs, words, ids."""
    folder = tmp_path_factory.mktemp("terminals")
    nobody = f"http://127.0.0.1:{free_port()}/a/path/that/is/long/enough/to/be/folded/v1/traces"
    words = "names are “too long” for us → cut them"
    with MockCollector(script=f"partial=1:{words},ok*") as upstream:
        destinations: dict[str, dict[str, Any]] = {
            "up": {"endpoint": upstream.endpoint, "headers": {"X-Some-Header": "v"}},
            LONG: {"endpoint": nobody},
            "old": {"endpoint": nobody, "paused": True},
        }
        with Relay(folder, destinations) as relay:
            assert relay.post(request(span(traceId=TRACE), span(traceId=TRACE)))[0] == 200
            assert relay.post(request(span(traceId="order-4711")))[0] == 400
            eventually(lambda: relay.status()["buffer"]["dead_letters"] == 2)
            eventually(lambda: relay.destination(LONG)["state"] == "waiting")
            del destinations["old"]
            relay.write_config(destinations)
            relay.signal(1)
            eventually(lambda: relay.status()["removed"])
            yield relay


def line(relay: Relay, typed: str, tmp_path: Path, *more: str) -> list[str]:
    made = tmp_path / "request.json"
    made.write_text(json.dumps(request(span(traceId=TRACE))))
    words = typed.format(new=tmp_path / "new", request=made).split()
    without = (["destination", "presets"], ["config", "example"])
    if words[:2] in without or words[0] == "completion":
        return [*words, *more]
    return [*words, "--config", str(relay.config), *more]


def typed(each: tuple[str, bool]) -> str:
    return each[0]


every_command = pytest.mark.parametrize("command", COMMANDS, ids=typed)


def test_table_has_every_command() -> None:
    named = {name for name in names_of(main) if any(c.startswith(name) for c, _ in COMMANDS)}
    assert set(names_of(main)) - named == {"serve", "top"}


def cells_of(piped: str) -> list[str]:
    """What stands in the tables, but for times and what is counted meanwhile."""
    rows = [row.split("\t") for row in piped.splitlines() if "\t" in row]
    cells = [cell for row in rows for cell in row]
    return [each for each in cells if not TIME.match(each) and not NUMBER.search(each)]


@every_command
def test_nothing_is_folded_or_cut_on_80_columns_and_nothing_padded_in_a_pipe(
    relay: Relay, tmp_path: Path, command: tuple[str, bool]
) -> None:
    piped = run_here(line(relay, command[0], tmp_path), COVERED)
    (tmp_path / "new").unlink(missing_ok=True)
    code, screen, err = run_on_terminal(
        line(relay, command[0], tmp_path), COVERED, encoding="utf-8"
    )

    assert code == piped.returncode, piped.stdout + piped.stderr
    assert "Traceback" not in screen + err + piped.stderr
    for row in piped.stdout.splitlines():
        assert row == row.rstrip(" ")
        assert "\t" not in row or "  " not in row, row
    for cell in cells_of(piped.stdout):
        assert cell in ("", "-") or cell in screen or cell.lower() in screen, cell
    titles = [row for row in piped.stdout.splitlines() if "\t" in row][:1]
    for first in (title.split("\t")[0] for title in titles):
        shown = [each for each in screen.splitlines() if re.match(rf"{first}( |$)", each)]
        assert len(shown) == 1
        assert len(shown[0]) <= 80
    for url in set(re.findall(r"https?://[^\s)`,;\"]+", piped.stdout)):
        assert url in screen, url


@every_command
def test_terminal_without_our_letters_gets_plain_ones(
    relay: Relay, tmp_path: Path, command: tuple[str, bool]
) -> None:
    piped = run_here(line(relay, command[0], tmp_path), COVERED)
    for encoding in ("ascii", "iso8859-1"):
        (tmp_path / "new").unlink(missing_ok=True)
        code, screen, err = run_on_terminal(
            line(relay, command[0], tmp_path), COVERED, encoding=encoding
        )
        assert (code, "Traceback" in screen + err) == (piped.returncode, False), err
        assert screen or piped.stderr


@pytest.mark.parametrize("command", [each for each in COMMANDS if each[1]], ids=typed)
def test_json_is_one_document_in_any_encoding(
    relay: Relay, tmp_path: Path, command: tuple[str, bool]
) -> None:
    code, screen, err = run_on_terminal(
        line(relay, command[0], tmp_path, "--json"), COVERED, encoding="ascii"
    )
    assert code in (0, 1), err
    assert json.loads(screen) is not None if screen else err


@every_command
def test_output_that_cannot_be_written_is_an_error_and_no_traceback(
    relay: Relay, tmp_path: Path, command: tuple[str, bool]
) -> None:
    usual = run_here(line(relay, command[0], tmp_path), COVERED)
    (tmp_path / "new").unlink(missing_ok=True)
    code, err = run_on(None, line(relay, command[0], tmp_path), COVERED)
    if "export" in command[0]:
        assert (code, "it is closed" in err) == (1, True), err
    else:
        assert code == usual.returncode, err  # nobody wants to see it
    if not usual.stdout:
        return
    (tmp_path / "new").unlink(missing_ok=True)
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        code, err = run_on(full, line(relay, command[0], tmp_path), COVERED)
    assert (code, "cannot write standard output" in err) == (1, True), err


def test_processes_end_so_too(relay: Relay) -> None:
    """A real one each, whose streams are made by Python and flushed once more at its end."""
    command = [sys.executable, "-m", "relay.cli", "check-config", "--config", str(relay.config)]
    for redirect, code, said in (
        (">/dev/full", 1, "cannot write standard output: No space left on device"),
        (">&-", 0, ""),
        ("2>&- >/dev/null", 0, ""),
        ("| true", 0, ""),
    ):
        shown = subprocess.run(
            ["bash", "-c", f'"$@" {redirect}', "bash", *command],
            capture_output=True,
            text=True,
            check=False,
            env={**COVERED, "PYTHONIOENCODING": "ascii"},
        )
        assert shown.returncode == code, (redirect, shown)
        assert said in shown.stderr
        assert "Traceback" not in shown.stderr
        assert "Exception ignored" not in shown.stderr


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_table_stands_on_any_width(relay: Relay, tmp_path: Path, width: int) -> None:
    code, screen, _ = run_on_terminal(
        line(relay, "destination list", tmp_path), COVERED, encoding="utf-8", columns=width
    )
    assert code == 0
    assert LONG in screen
    assert "/a/path/that/is/long/enough/to/be/folded/v1/traces" in screen


def test_command_that_is_mistyped_is_answered_with_the_right_one(relay: Relay) -> None:
    assert "Did you mean 'status'?" in run_here(["stauts"], COVERED).stderr
    assert "Did you mean 'list'?" in run_here(["destination", "lits"], COVERED).stderr


def test_what_apps_sent_is_shown_on_a_terminal_only_when_asked_for(
    relay: Relay, tmp_path: Path
) -> None:
    for command in ("dead-letter export", "buffer export"):
        code, screen, err = run_on_terminal(
            line(relay, command, tmp_path), COVERED, encoding="utf-8"
        )
        assert (code, screen) == (2, "")
        assert "--output -" in err
