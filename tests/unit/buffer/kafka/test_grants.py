"""A right that lacks is told with the command that grants it to whom the brokers take us for."""

from pathlib import Path

import pytest

from relay.buffer.kafka.own_certificate import look_at_own
from relay.buffer.kafka.rights import Kind, Lacking, grant
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig, SaslConfig
from relay.config.secrets import Secret
from tests.support.certificates import DAY, NOW, make_authority

SASL = SaslConfig(username="relay", password=Secret("x"))
SETTINGS = KafkaSettings(FleetConfig(brokers=("k1:9092", "k2:9092"), sasl=SASL), "r1")


def test_a_topic_is_granted_by_its_name() -> None:
    lacking = Lacking("topic", ("Read", "Write"), ("otlp_logs", "otlp_spans"))
    assert lacking.words(SETTINGS) == (
        "the account of this relay may not Read, Write topics otlp_logs, otlp_spans: "
        "kafka-acls.sh --bootstrap-server k1:9092 --add --allow-principal 'User:relay' "
        "--operation Read --operation Write --topic otlp_logs --topic otlp_spans"
    )


def test_groups_are_granted_by_what_their_names_begin_with() -> None:
    command = grant(SETTINGS, Lacking("group", ("Read",), ("otlp-relay.prod.a",)))
    assert command.endswith("--group otlp-relay.prod. --resource-pattern-type prefixed")


@pytest.mark.parametrize(
    ("kind", "operations", "level"),
    [
        ("topic", ("Read",), "broken"),
        ("topic", ("Read", "DescribeConfigs"), "broken"),
        ("topic", ("DescribeConfigs",), "weak"),
        ("group", ("Read", "Describe"), "broken"),
        ("group", ("Delete",), "note"),
    ],
)
def test_what_a_relay_can_do_without_does_not_keep_it_from_starting(
    kind: Kind, operations: tuple[str, ...], level: str
) -> None:
    assert Lacking(kind, operations, ("x",)).level == level


def own(folder: Path, **keys: object) -> FleetConfig:
    certificate, key = make_authority(folder).issue("relay", **keys)  # type: ignore[arg-type]
    return FleetConfig(brokers=("k1:1",), client_cert=Path(certificate), client_key=Path(key))


def test_a_client_certificate_is_an_account_by_its_subject(tmp_path: Path) -> None:
    settings = KafkaSettings(own(tmp_path), "r1")
    assert "'User:CN=relay'" in grant(settings, Lacking("topic", ("Read",), ("x",)))


def test_what_is_wrong_with_a_client_certificate_is_seen_without_a_broker(tmp_path: Path) -> None:
    expired = own(tmp_path, begins=NOW - 2 * DAY, ends=NOW - DAY)
    assert look_at_own(expired).wrong == "has expired: renew it, then reload the relay"
    assert look_at_own(own(tmp_path, begins=NOW + DAY)).wrong == "is not valid yet"
    assert look_at_own(own(tmp_path, ends=NOW + 15 * DAY + DAY / 2)).warning == ""
    soon = look_at_own(own(tmp_path, ends=NOW + 13 * DAY + DAY / 2))
    assert soon.warning == ("fleet.client_cert expires in 13 days: renew it, then reload the relay")
    today = look_at_own(own(tmp_path, ends=NOW + DAY / 2))
    assert today.warning.startswith("fleet.client_cert expires within a day:")
    broken = own(tmp_path)
    assert broken.client_key is not None
    broken.client_key.write_text("no key")
    assert look_at_own(broken).wrong.startswith("cannot be used: ")
