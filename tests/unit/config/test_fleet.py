"""`[fleet]`: its words, and rules between them that are told before anything connects."""

from pathlib import Path

import pytest
from msgspec import structs

from relay.config import Config, changes_needing_restart
from relay.config.fleet import SYSTEM_AUTHORITIES, FleetConfig
from relay.config.load import load
from relay.config.tables import ConfigProblems

SOUND = 'engine = "kafka"\nbrokers = ["k1:9092", "[::1]:9093"]\n'


def read(folder: Path, text: str, **environ: str) -> Config:
    path = folder / "relay.toml"
    path.write_text(f"state_dir = 'state'\n[fleet]\n{text}")
    path.chmod(0o600)
    return load(path, {"HOME": "/home/x", **environ})


def fleet_of(folder: Path, text: str, **environ: str) -> FleetConfig:
    fleet = read(folder, text, **environ).fleet
    assert fleet is not None
    return fleet


def test_without_the_table_there_is_no_fleet(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text("state_dir = 'state'\n")
    assert load(tmp_path / "relay.toml", {}).fleet is None


def test_two_lines_are_enough(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, SOUND)
    assert fleet.brokers == ("k1:9092", "[::1]:9093")
    assert (fleet.replication, fleet.min_in_sync, fleet.sync) == (3, 2, "full")
    assert not fleet.is_weak


def test_password_is_read_as_every_secret_and_never_shown(tmp_path: Path) -> None:
    line = SOUND + 'sasl = { username = "relay", password = "${env:KAFKA_PASSWORD}" }\n'
    fleet = fleet_of(tmp_path, line, KAFKA_PASSWORD="hunter2")
    assert fleet.sasl is not None
    assert fleet.sasl.password.reveal() == "hunter2"
    assert "hunter2" not in repr(fleet)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('brokers = ["k1:9092"]', "fleet.engine", "is missing"),
        ('engine = "nats"', "fleet.engine", 'must be one of "kafka"'),
        ('engine = "kafka"', "fleet.brokers", "names no broker"),
        ('engine = "kafka"\nbrokers = ["k1"]', "fleet.brokers[0]", "host:port"),
        (SOUND + 'name = "a.b"', "fleet.name", "letters, digits"),
        (SOUND + 'topic = "a b"', "fleet.topic", "a topic's name"),
        (SOUND + 'topic = "x"\ntopic_json = "x"', "fleet.topic_json", "a topic has one encoding"),
        (SOUND + "replication = 1\nmin_in_sync = 1", "fleet.replication", "at least 3"),
        (SOUND + "min_in_sync = 1", "fleet.min_in_sync", "at least 2"),
        (SOUND + "min_in_sync = 4", "fleet.min_in_sync", "not be above replication"),
        (SOUND + 'keep_delivered = "299s"', "fleet.keep_delivered", "at least 5m"),
        (
            SOUND + 'keep_delivered = "1h"\nown_topics = false',
            "fleet.keep_delivered",
            "not the relays' own",
        ),
        (SOUND + 'sasl = { username = "relay" }', "fleet.sasl", "username and a password"),
        (SOUND + 'sasl = { user = "relay" }', "fleet.sasl", "no such key"),
        (
            SOUND + 'sasl = { mechanism = "PLAIN", username = "r", password = "p" }',
            "fleet.sasl",
            "in clear without TLS",
        ),
        (SOUND + 'sasl = { username = "r", password = "${env:NO}" }', "fleet.sasl", "is not set"),
    ],
)
def test_what_cannot_be_is_told_with_its_key(
    tmp_path: Path, text: str, key: str, words: str
) -> None:
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, text)
    assert f"{key}: " in str(caught.value)
    assert words in str(caught.value)


def test_a_trial_with_one_broker_must_say_that_it_is_weak(tmp_path: Path) -> None:
    text = SOUND + "replication = 1\nmin_in_sync = 1\nallow_weak = true"
    assert fleet_of(tmp_path, text).is_weak


def test_authorities_of_this_host_have_a_word(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, SOUND + 'ca_file = "system"')
    assert fleet.ca_file == SYSTEM_AUTHORITIES


def test_a_change_needs_a_restart_unless_it_is_of_how_brokers_are_reached(tmp_path: Path) -> None:
    old = read(tmp_path, SOUND)
    new = read(tmp_path, SOUND + 'name = "other"')
    assert changes_needing_restart(old, new) == ["fleet"]
    access = 'ca_file = "system"\nsasl = { username = "relay", password = "new" }'
    assert changes_needing_restart(old, read(tmp_path, SOUND + access)) == []
    assert changes_needing_restart(old, structs.replace(old, fleet=None)) == ["fleet"]


def test_a_password_in_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    text = SOUND + 'sasl = { username = "relay", password = "hunter2" }\n'
    assert read(tmp_path, text).warnings == ()
    (tmp_path / "relay.toml").chmod(0o644)
    (warning,) = load(tmp_path / "relay.toml", {"HOME": "/home/x"}).warnings
    assert "a password stands in it" in warning
    assert "hunter2" not in warning
