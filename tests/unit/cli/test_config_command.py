import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.cli.check_config import check_config

CONFIG = """
state_dir = "state"
[ingest]
tokens = ["ingest-s3cr3t"]
[destinations.up]
endpoint = "https://u:p-s3cr3t@up.example/v1/traces?k=q-s3cr3t"
headers = { Authorization = "Bearer h-s3cr3t", X-Dataset = "${env:NOPE}" }
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "relay.toml"
    path.write_text(CONFIG)
    path.chmod(0o644)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(check_config, [str(argument) for argument in arguments])


def test_check_config_shows_what_was_read(config: Path) -> None:
    result = run("--config", config)

    assert result.exit_code == 0
    for part in (
        str(config),
        str(config.parent / "state"),
        "http://localhost:4318/v1/traces",
        "127.0.0.1:4380",
        "up → https://***@up.example/v1/traces?***",
        "headers: Authorization, X-Dataset",
        "blocked: secret ${env:NOPE} is not set",
        "warning: ",
    ):
        assert part in result.stdout
    assert "s3cr3t" not in result.output


def test_check_config_prints_json_on_demand(config: Path) -> None:
    result = run("--config", config, "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (document["ok"], document["source"]) == (True, str(config))
    assert document["ingest"]["listen"] == ["localhost:4318"]
    assert document["ingest"]["tokens"] == 1
    assert document["destinations"][0]["header_names"] == ["Authorization", "X-Dataset"]
    assert document["destinations"][0]["blocked_reason"] == "secret ${env:NOPE} is not set"
    assert "s3cr3t" not in result.output


def test_check_config_prints_each_problem_on_a_line(config: Path) -> None:
    config.write_text("stat_dir = 1\n[admin]\nlisten = '0.0.0.0:1'")

    result = run("--config", config)

    assert result.exit_code == 1
    assert result.stdout == ""
    hint = "from elsewhere use an SSH tunnel or a reverse proxy"
    assert result.stderr.splitlines() == [
        f"{config}: stat_dir: there is no such key (did you mean state_dir?)",
        f'{config}: admin.listen: must be loopback, not "0.0.0.0:1" ({hint})',
    ]


def test_check_config_prints_problems_as_json(config: Path) -> None:
    config.write_text("stat_dir = 1")

    result = run("--config", config, "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["ok"] is False
    assert document["problems"][0]["key"] == "stat_dir"
    assert document["problems"][0]["source"] == str(config)


def test_check_config_fails_when_the_named_file_is_absent(config: Path) -> None:
    result = run("--config", config.parent / "absent.toml")

    assert result.exit_code == 1
    assert "there is no such file, named by --config" in result.stderr


def test_check_config_is_content_without_any_file(config: Path) -> None:
    config.unlink()

    result = run()

    assert result.exit_code == 0
    assert "none found, all defaults" in result.stdout


def test_check_config_calls_an_unknown_option_wrong_usage() -> None:
    assert run("--nope").exit_code == 2


def test_check_config_says_what_is_open_to_others_in_the_state_directory(config: Path) -> None:
    state_dir = config.parent / "state"
    state_dir.mkdir()
    state_dir.chmod(0o755)
    for name in ("relay.db", "admin-token"):
        (state_dir / name).touch()
        (state_dir / name).chmod(0o644)

    result = run("--config", config)

    assert result.exit_code == 0
    assert f"warning: {state_dir} has mode 0755, open to other users" in result.stdout
    assert "relay.db has mode 0644, open to other users: at the next start it becomes 0600" in (
        result.stdout
    )
    assert "admin-token has mode 0644, open to other users: at the next start it is replaced" in (
        result.stdout
    )


def test_check_config_fails_where_the_daemon_would_refuse_the_state_directory(
    config: Path,
) -> None:
    state_dir = config.parent / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / "reserve").symlink_to("/etc/passwd")

    result = run("--config", config)
    document = json.loads(run("--config", config, "--json").stdout)

    assert result.exit_code == 1
    assert "reserve is a symbolic link" in result.stderr
    assert "remove the link" in result.stderr
    assert "\nok" not in result.stdout
    assert document["ok"] is False
    assert document["problems"][0]["key"] == "state_dir"


def test_doctor_says_what_others_may_do_in_the_state_directory(config: Path) -> None:
    state_dir = config.parent / "state"
    state_dir.mkdir()
    state_dir.chmod(0o777)
    config.write_text('state_dir = "state"\n')
    open_to_all = CliRunner().invoke(main, ["doctor", "--config", str(config)])
    (state_dir / "last-row").symlink_to("/etc/passwd")
    linked = CliRunner().invoke(main, ["doctor", "--config", str(config)])

    assert (
        f"note    state      {state_dir} has mode 0777, open to other users" in open_to_all.output
    )
    assert "FAILED  state" not in open_to_all.output
    assert f"FAILED  state      {state_dir}/last-row is a symbolic link" in linked.output
    assert linked.exit_code == 1
