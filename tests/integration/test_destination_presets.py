"""Every preset against the mock of its backend: saved with the right token, not with a wrong one.

In this process, since that is thirty commands; `test_destination_commands` runs the real one.
"""

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mockcollector.profiles import PROFILES, build, options_of
from mockcollector.server import MockCollector
from relay.cli.destination_add import add
from relay.config.presets import PRESETS

RIGHT, WRONG = "canary-right-0a1b2c3d", "canary-wrong-9f8e7d6c"
BACKENDS = {name for name, preset in PRESETS.items() if not preset.is_sender}
RECEIVERS = sorted(name for name in BACKENDS if PRESETS[name].default_signals == ("traces",))
WITH_TOKEN = [name for name in RECEIVERS if "token" in options_of(name)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.toml"
    path.write_text('state_dir = "state"\n')
    return path


def add_by(config: Path, upstream: MockCollector, name: str, token: str) -> Result:
    """Add with the headers that the backend wants, the secret ones as references."""
    arguments = ["up", "--preset", name, "--endpoint", upstream.endpoint, "--config", str(config)]
    environ = {}
    headers = build(name, token).headers if name in WITH_TOKEN else build(name).headers
    for number, (header, value) in enumerate(headers.items()):
        if header.lower() in {"content-type", "content-encoding"}:
            continue
        environ[f"HEADER_{number}"] = value
        arguments += ["--header", f"{header}=${{env:HEADER_{number}}}"]
    return CliRunner().invoke(add, arguments, env=environ)


def test_every_backend_has_its_mock() -> None:
    assert set(PROFILES) == BACKENDS
    assert len(WITH_TOKEN) > 10


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_preset_and_mock_know_of_the_same_signals(name: str) -> None:
    preset = PRESETS[name]
    taken = {str(key) for key, rules in build(name).rules.items() if rules.closed is None}

    assert {*preset.default_signals, *preset.signals} == taken


@pytest.mark.parametrize("name", RECEIVERS)
def test_add_by_preset_passes_with_the_right_token(name: str, config: Path) -> None:
    token = RIGHT if name in WITH_TOKEN else None
    with MockCollector(profile=name, token=token) as upstream:
        shown = add_by(config, upstream, name, RIGHT)

        assert shown.exit_code == 0, shown.output
        text = (config.parent / "destinations.d" / "up.toml").read_text()
        assert tomllib.loads(text)["preset"] == name
        assert RIGHT not in shown.output + text


@pytest.mark.parametrize("name", WITH_TOKEN)
def test_add_by_preset_saves_nothing_with_a_wrong_token(name: str, config: Path) -> None:
    with MockCollector(profile=name, token=RIGHT) as upstream:
        shown = add_by(config, upstream, name, WRONG)

        assert shown.exit_code == 1, shown.output
        assert not (config.parent / "destinations.d").exists()
        assert WRONG not in shown.output
