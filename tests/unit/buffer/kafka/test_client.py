"""The client library: loaded by a fleet alone, and what is said where it is absent."""

import subprocess
import sys

import pytest

from relay.buffer.kafka.bridge import Bridge, producer_settings
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import SYSTEM_AUTHORITIES, FleetConfig, SaslConfig
from relay.config.secrets import Secret
from relay.model.errors import ConfigError

SETTINGS = KafkaSettings(FleetConfig(brokers=("127.0.0.1:1",)), "relay-1")


def test_without_the_library_a_fleet_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError) as caught:
        Bridge(SETTINGS).start()
    assert caught.value.hint == "pip install 'otlp-relay[fleet]'"


def test_what_relays_one_by_one_load_holds_nothing_of_a_fleet() -> None:
    program = (
        "import sys, relay.cli, relay.daemon; "
        "found = [m for m in sys.modules if 'kafka' in m]; sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_acknowledged_before_every_broker_in_sync_has_it() -> None:
    told = producer_settings(SETTINGS, 7.5)
    assert told["acks"] == "all"
    assert told["max.in.flight.requests.per.connection"] == 1
    assert told["message.timeout.ms"] == 7500


def test_tls_and_sasl_become_the_words_of_the_client() -> None:
    sasl = SaslConfig(username="relay", password=Secret("hunter2"))
    fleet = FleetConfig(brokers=("k1:9092",), ca_file=SYSTEM_AUTHORITIES, sasl=sasl)
    told = KafkaSettings(fleet, "relay-1").client()
    assert told["security.protocol"] == "sasl_ssl"
    assert "ssl.ca.location" not in told
    assert told["sasl.password"] == "hunter2"


def test_what_the_client_cannot_use_is_an_error_of_the_configuration(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    wrong = tmp_path_factory.mktemp("ca") / "ca.pem"
    wrong.write_text("no certificate")
    fleet = FleetConfig(brokers=("k1:9092",), ca_file=wrong)
    with pytest.raises(ConfigError, match="cannot be used"):
        Bridge(KafkaSettings(fleet, "relay-1")).start()
