"""Every preset and signal against the mock of its backend: saved with the right token, not with a
wrong one.

In this process, since that is a hundred commands; `test_destination_commands` runs the real one.
"""

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from mockcollector.profiles import PROFILES, build, options_of
from mockcollector.server import MockCollector
from mockcollector.signals import Signal
from relay.cli.destination_add import add
from relay.config.presets import PRESETS

RIGHT, WRONG = "canary-right-0a1b2c3d", "canary-wrong-9f8e7d6c"
BACKENDS = sorted(name for name, preset in PRESETS.items() if not preset.is_sender)
RECEIVERS = [(name, word) for name in BACKENDS for word in PRESETS[name].taken_signals]
WITH_TOKEN = [(name, word) for name, word in RECEIVERS if "token" in options_of(name)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.toml"
    path.write_text('state_dir = "state"\n')
    return path


def add_by(config: Path, upstream: MockCollector, name: str, token: str, words: str) -> Result:
    """Add for these signals, with the headers that the backend wants, secret ones as references."""
    arguments = ["up", "--preset", name, "--endpoint", upstream.endpoint, "--signals", words]
    arguments += ["--config", str(config)]
    profile = build(name, token) if "token" in options_of(name) else build(name)
    environ: dict[str, str] = {}
    given = set()
    for word in words.split(","):
        if name == "lightstep" and word == "metrics":  # its path does not follow from the other
            arguments += ["--metrics-endpoint", upstream.endpoint_of(word)]
        for header, value in profile.headers_of(Signal(word)).items():
            if header.lower() in {"content-type", "content-encoding"} or header in given:
                continue
            given.add(header)
            variable = f"HEADER_{len(given)}"
            environ[variable] = value
            is_general = header in {each.name for each in PRESETS[name].headers}
            flag = "--header" if is_general or word == "traces" else f"--{word}-header"
            arguments += [flag, f"{header}=${{env:{variable}}}"]
    return CliRunner().invoke(add, arguments, env=environ)


def test_every_backend_has_its_mock() -> None:
    assert set(PROFILES) == set(BACKENDS)
    assert len(WITH_TOKEN) > 30


@pytest.mark.parametrize("name", BACKENDS)
def test_preset_and_mock_know_of_the_same_signals(name: str) -> None:
    taken = {str(key) for key, rules in build(name).rules.items() if rules.closed is None}

    assert set(PRESETS[name].taken_signals) == taken


@pytest.mark.parametrize("name", BACKENDS)
def test_add_by_preset_passes_for_all_it_takes_with_the_right_token(
    name: str, config: Path
) -> None:
    token = RIGHT if "token" in options_of(name) else None
    words = PRESETS[name].taken_signals
    with MockCollector(profile=name, token=token) as upstream:
        shown = add_by(config, upstream, name, RIGHT, ",".join(words))
        counts = upstream.journal.counts

        assert shown.exit_code == 0, shown.output
        text = (config.parent / "destinations.d" / "up.toml").read_text()
        table = tomllib.loads(text)
        assert table["preset"] == name
        assert table.get("signals", [*PRESETS[name].default_signals]) == [*words]
        assert RIGHT not in shown.output + text
        real = (counts.log_records_accepted, counts.data_points_accepted)
        assert real == ("logs" in words, "metrics" in words)


@pytest.mark.parametrize(("name", "word"), WITH_TOKEN)
def test_add_by_preset_saves_nothing_with_a_wrong_token(name: str, word: str, config: Path) -> None:
    with MockCollector(profile=name, token=RIGHT) as upstream:
        shown = add_by(config, upstream, name, WRONG, word)

        assert shown.exit_code == 1, shown.output
        assert not (config.parent / "destinations.d").exists()
        assert WRONG not in shown.output


@pytest.mark.parametrize(("name", "word"), [(n, w) for n in BACKENDS for w in PRESETS[n].refuses])
def test_signal_that_a_backend_does_not_take_is_refused_with_the_fact(
    name: str, word: str, config: Path
) -> None:
    arguments = ["up", "--preset", name, "--endpoint", "http://127.0.0.1:1/v1/traces"]
    arguments += ["--config", str(config), "--signals", word]
    for header in PRESETS[name].headers:
        arguments += ["--header", f"{header.name}={header.fill('x')}"]
    shown = CliRunner().invoke(add, arguments)

    assert shown.exit_code == 2, shown.output
    assert PRESETS[name].refuses[word] in shown.output


@pytest.mark.parametrize("name", ["victoria-metrics", "victoria-logs"])
def test_add_without_preset_finds_that_json_is_refused_with_400(name: str, config: Path) -> None:
    with MockCollector(profile=name) as upstream:
        (word,) = upstream.signals
        arguments = ["up", f"--{word}-endpoint", upstream.endpoint, "--signals", word]
        arguments += ["--endpoint", upstream.endpoint, "--config", str(config)]
        shown = CliRunner().invoke(add, arguments)

    assert shown.exit_code == 0, shown.output
    text = (config.parent / "destinations.d" / "up.toml").read_text()
    assert tomllib.loads(text)["encoding"] == "protobuf"


@pytest.mark.parametrize("name", BACKENDS)
def test_add_with_a_wrong_path_says_which_one_was_meant(name: str, config: Path) -> None:
    with MockCollector(profile=name) as upstream:
        word = str(upstream.signals[0])
        profile = build(name)
        arguments = ["up", "--preset", name, "--endpoint", upstream.base_url + "/otlp"]
        arguments += ["--config", str(config), "--signals", word]
        for header, value in profile.headers_of(Signal(word)).items():
            if header.lower() not in {"content-type", "content-encoding"}:
                arguments += ["--header", f"{header}={value}"]
        shown = CliRunner().invoke(add, arguments)

    assert shown.exit_code == 1, shown.output
    path = urlsplit(PRESETS[name].endpoint).path
    if "{" not in path:
        assert f"did you mean {upstream.base_url}{path}? There it answers" in shown.output
