"""`otlp-relay point`: what is to be set, with the relay's own address, and what is written."""

import json
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from relay.cli.senders import EXAMPLE_BASE, SENDERS
from tests.support.commands import run_here

CLAUDE = "~/.claude/settings.json"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_here(["point", *arguments], environ)


@pytest.mark.parametrize("sender", SENDERS.values(), ids=SENDERS)
def test_each_has_a_text_of_its_format(sender: object) -> None:
    assert hasattr(sender, "steps")
    for step in sender.steps:
        assert step.text.strip()
        if step.format == "json":
            json.loads(step.text)
        elif step.format == "toml":
            tomllib.loads(step.text)
        elif step.format == "shell":
            subprocess.run(["bash", "-n", "-c", step.text], check=True)
        assert not step.file or step.format in ("json", "toml")
        assert "localhost" not in step.text.replace(EXAMPLE_BASE, "")


def test_address_is_that_of_the_relay(environ: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text('[ingest]\nlisten = "127.0.0.1:9999"\n')

    done = run(environ, "goose", "--config", str(config))

    assert "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9999\n" in done.stdout
    assert "4318" not in done.stdout


def test_says_which_signals_no_destination_gets(environ: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text('[destinations.up]\nendpoint = "http://127.0.0.1:1/v1/traces"\n')

    done = run(environ, "claude-code", "--config", str(config))

    assert "No destination of this relay gets logs or metrics" in done.stdout


def test_says_how_a_token_is_given_and_never_which(environ: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text('[ingest]\ntokens = ["hunter2"]\n')
    config.chmod(0o600)

    shown = [run(environ, name, "--config", str(config)).stdout for name in ("goose", "codex")]

    assert 'OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20YOUR-TOKEN"' in shown[0]
    assert "asks for a token" in shown[1]
    assert "hunter2" not in "".join(shown)


def test_list_and_json(environ: dict[str, str]) -> None:
    assert "claude-code" in run(environ, "--list").stdout
    listed = json.loads(run(environ, "--list", "--json").stdout)
    assert [each["name"] for each in listed] == list(SENDERS)

    shown = json.loads(run(environ, "codex", "--json").stdout)
    assert tomllib.loads(shown["steps"][0]["text"])["otel"]
    assert shown["writes"] == "~/.codex/config.toml"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["claude"], 1, "did you mean claude-code?"),
        (["Gemini", "CLI"], 2, "unexpected extra argument"),
        (["gemini cli"], 1, "did you mean gemini-cli?"),
        ([], 2, "name a tool"),
        (["goose", "--yes"], 2, "go with --write"),
        (["goose", "--write", "--yes"], 1, "shows what to set by hand"),
        (["claude-code", "--write"], 2, "add --yes"),
    ],
)
def test_wrong_use_says_what_is_right(
    environ: dict[str, str], arguments: list[str], code: int, words: str
) -> None:
    done = run(environ, *arguments)

    assert done.returncode == code
    assert words in done.stderr


def test_json_settings_are_merged_and_the_old_file_is_kept(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / ".claude" / "settings.json"
    file.parent.mkdir()
    before = '{"model": "opus", "env": {"A": "1", "OTEL_LOGS_EXPORTER": "none"}}'
    file.write_text(before)
    file.chmod(0o640)

    done = run(environ, "claude-code", "--write", "--yes")

    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["model"] == "opus"
    assert found["env"]["A"] == "1"
    assert found["env"]["OTEL_LOGS_EXPORTER"] == "otlp"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    backups = [path for path in file.parent.iterdir() if path != file]
    assert [path.read_text() for path in backups] == [before]
    assert str(backups[0]) in done.stdout

    again = run(environ, "claude-code", "--write")  # nothing to ask about
    assert "has it all already" in again.stdout
    assert len(list(file.parent.iterdir())) == 2


def test_toml_is_added_at_the_end_and_comments_stay(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('# mine\nmodel = "o4"\n[tools]\nweb = true')

    done = run(environ, "codex", "--write", "--yes", "--file", str(file))

    assert done.returncode == 0, done.stderr
    assert file.read_text().startswith('# mine\nmodel = "o4"\n[tools]\nweb = true\n\n[otel]\n')
    assert tomllib.loads(file.read_text())["tools"] == {"web": True}


@pytest.mark.parametrize(
    ("tool", "content", "words"),
    [
        ("claude-code", '{\n  // mine\n  "a": 1\n}', "holds comments or is no JSON"),
        ("claude-code", "[1]", "is no JSON object"),
        ("codex", '[otel]\nenvironment = "dev"\n', "has a table [otel] already"),
        ("codex", "[otel", "is no TOML"),
    ],
)
def test_what_cannot_be_merged_is_left_as_it_is(
    environ: dict[str, str], tmp_path: Path, tool: str, content: str, words: str
) -> None:
    file = tmp_path / "settings"
    file.write_text(content)

    done = run(environ, tool, "--write", "--yes", "--file", str(file))

    assert done.returncode == 1
    assert words in done.stderr
    assert file.read_text() == content
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [file]


def test_link_stays_a_link(environ: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.json"
    target.write_text("{}")
    link = tmp_path / "settings.json"
    link.symlink_to(target)

    run(environ, "gemini-cli", "--write", "--yes", "--file", str(link))

    assert link.is_symlink()
    assert json.loads(target.read_text())["telemetry"]["otlpEndpoint"] == EXAMPLE_BASE


def test_what_the_file_does_not_hold_is_still_shown(environ: dict[str, str]) -> None:
    done = run(environ, "opencode", "--write", "--yes")

    assert "export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318" in done.stdout
