"""How the brokers are reached may change while a relay runs; what it is told to write it keeps."""

from pathlib import Path

from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig, SaslConfig
from relay.config.secrets import Secret


def fleet_of(folder: Path, said: str = "one", name: str = "prod") -> FleetConfig:
    ca = folder / "ca.pem"
    ca.touch()
    sasl = SaslConfig(username="relay", password=Secret(said))
    return FleetConfig(brokers=("k1:9092",), ca_file=ca, sasl=sasl, name=name)


def test_only_access_is_taken_up_and_clients_are_told_to_be_made_anew(tmp_path: Path) -> None:
    settings = KafkaSettings(fleet_of(tmp_path), "r1")
    settings.take_up(settings.reached_as(fleet_of(tmp_path, "two", name="other")))
    assert settings.client()["sasl.password"] == "two"
    assert settings.fleet.name == "prod"
    assert settings.relay_id == "r1"
    assert settings.version == 1


def test_files_count_by_what_is_in_them(tmp_path: Path) -> None:
    settings = KafkaSettings(fleet_of(tmp_path), "r1")
    assert settings.reached_as(fleet_of(tmp_path)).is_reached_alike(settings)
    assert not settings.reached_as(fleet_of(tmp_path, "two")).is_reached_alike(settings)
    (tmp_path / "ca.pem").write_text("renewed")
    renewed = settings.reached_as(fleet_of(tmp_path))
    assert not renewed.is_reached_alike(settings)
    settings.take_up(renewed)
    assert settings.reached_as(fleet_of(tmp_path)).is_reached_alike(settings)
