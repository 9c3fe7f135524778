"""`[destinations.NAME.sample]`, read."""

from pathlib import Path

import pytest

from relay.config import Config
from relay.config.load import load
from relay.config.sample import SampleConfig
from relay.model.errors import ConfigError
from relay.model.records import Signal

DESTINATION = '[destinations.shop]\nendpoint = "http://127.0.0.1:1/v1/traces"\n'


def read(tmp_path: Path, text: str) -> Config:
    (tmp_path / "relay.toml").write_text(text)
    return load(tmp_path / "relay.toml", {"HOME": "/home/x"})


def test_every_view_knows_whether_it_is_sampled(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        f'{DESTINATION}signals = ["traces", "logs", "metrics"]\n'
        '[destinations.shop.sample]\nratio = 0.1\nkeep = \'status == "ERROR"\'\nwait = "2s"\n',
    )
    views = {view.signal: view for view in config.destinations[0].views}
    assert views[Signal.TRACES].sample == SampleConfig(
        ratio=0.1, keep='status == "ERROR"', wait_seconds=2.0
    )
    assert {signal: view.is_sampled for signal, view in views.items()} == {
        Signal.TRACES: True,
        Signal.LOGS: True,
        Signal.METRICS: False,
    }


@pytest.mark.parametrize("table", ["", "[destinations.shop.sample]\nratio = 1\n"])
def test_nothing_is_sampled_without_a_ratio_below_1(tmp_path: Path, table: str) -> None:
    destination = read(tmp_path, DESTINATION + table).destinations[0]
    assert destination.sample == SampleConfig()
    assert not destination.has_steps


@pytest.mark.parametrize(
    ("signals", "table", "key", "words"),
    [
        ('["traces"]', "ratio = 1.5", "sample.ratio", "a number from 0 to 1"),
        ('["traces"]', 'ratio = "0.1"', "sample.ratio", "a number from 0 to 1"),
        ('["traces"]', "ratio = nan", "sample.ratio", "a number from 0 to 1"),
        ('["traces"]', "ratio = true", "sample.ratio", "a number from 0 to 1"),
        ('["traces"]', 'ratio = 0.1\nwait = "0s"', "sample.wait", "longer than 0"),
        ('["traces"]', "ratio = 0.1\nkeep = 'stat == 1'", "sample.keep", "no variable stat"),
        ('["traces"]', "rate = 0.1", "sample.rate", "did you mean ratio"),
        ('["traces"]', "keep = 'status == \"OK\"'", "sample.keep", "set ratio"),
        ('["logs"]', "ratio = 0.1\nkeep = 'status == \"OK\"'", "sample.keep", "looks at spans"),
        ('["metrics"]', "ratio = 0.1", "sample", "metrics are not sampled"),
        (
            '["traces"]\nmax_age = "20s"',
            "ratio = 0.1\nkeep = 'status == \"OK\"'",
            "sample.wait",
            "not shorter than max_age (20s)",
        ),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_says_what_to_do(
    tmp_path: Path, signals: str, table: str, key: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"{DESTINATION}signals = {signals}\n[destinations.shop.sample]\n{table}\n")
    assert f"destinations.shop.{key}" in str(caught.value)
    assert words in str(caught.value)


def test_a_table_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"destinations\.shop\.sample: must be a table"):
        read(tmp_path, f"{DESTINATION}sample = 0.1\n")
