"""A relay does all with exactly the rights that the manual lists; what lacks is named."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.topics import Promise, Topics
from relay.config.fleet import FleetConfig, SaslConfig
from relay.config.load import load
from relay.config.secrets import Secret
from tests.fleet.fleets import relay_of
from tests.fleet.guarded import KAFKA, PASSWORD, Guarded, guarded_broker
from tests.support.builders import request, span
from tests.support.load import MIXED, SIGNALS, arrived, nth_request
from tests.support.relay_process import Relay, eventually

MANUAL = Path("docs/fleet.md").read_text()
COMMANDS = [
    command
    for block in re.findall(r"```sh\n(.*?)```", MANUAL, re.DOTALL)
    for command in re.findall(r"^kafka-acls\.sh (?:.*\\\n)*.*$", block, re.MULTILINE)
]
ACCOUNT = {"mechanism": "SCRAM-SHA-512", "username": "relay", "password": PASSWORD}
REJECTED = request(span(spanId="0000000000000000"), span())  # the first becomes a dead letter
GROUPS = ("otlp-relay.prod.mock",)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A broker where the account `relay` has no right yet."""
    with guarded_broker(tmp_path_factory.mktemp("guarded")) as made:
        yield made


def fleet_of(guarded: Guarded, listener: str = "SASL", **keys: Any) -> KafkaSettings:
    """The fleet of the manual, as the account `relay` or as who may do everything."""
    account = SaslConfig(username="relay", password=Secret(PASSWORD))
    fleet = FleetConfig(
        brokers=tuple(guarded.brokers.at(listener)),
        partitions=3,
        replication=1,
        min_in_sync=1,
        allow_weak=True,
        keep_delivered_seconds=3600.0,
        sasl=account if listener == "SASL" else None,
        **keys,
    )
    return KafkaSettings(fleet, "r1")


def all_topics(settings: KafkaSettings) -> list[str]:
    return [
        *settings.rows_topics,
        settings.dead_letters_topic,
        settings.control_topic,
        settings.history_topic,
    ]


def delete(guarded: Guarded, *topics: str) -> None:
    """Those topics, and wait until they are gone."""
    there = set(guarded.admin.list_topics(timeout=10).topics)
    gone = sorted(there & set(topics))
    for answer in (guarded.admin.delete_topics(gone) if gone else {}).values():
        answer.result(60)
    eventually(
        lambda: not there & set(topics) & set(guarded.admin.list_topics(timeout=10).topics),
        what="topics deleted",
    )


@pytest.fixture
def granted(guarded: Guarded) -> Guarded:
    """With the rights of the manual, and all the topics."""
    guarded.take_all()
    Topics(fleet_of(guarded, "PLAIN")).make_ready()
    guarded.grant(*COMMANDS)
    topics = Topics(fleet_of(guarded), GROUPS)
    eventually(lambda: topics.lacking() == [], what="the rights")
    return guarded


def test_the_manual_grants_by_commands_and_shows_tables_that_can_be_read(tmp_path: Path) -> None:
    assert len(COMMANDS) == 4
    tables = [each for each in re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL) if "k1" in each]
    assert len(tables) == 4
    for number, table in enumerate(tables):
        for file in re.findall(r"/etc/otlp-relay/([a-z.-]+)", table):
            (tmp_path / file).write_text("x")
        config = tmp_path / f"{number}.toml"
        config.write_text(table.replace("/etc/otlp-relay", str(tmp_path)))
        fleet = load(str(config), {"HOME": str(tmp_path)}).fleet
        assert fleet is not None
        assert bool(fleet.sasl) is ("sasl" in table)


@pytest.mark.parametrize("own_topics", [True, False])
def test_with_the_rights_of_the_manual_a_relay_does_everything(
    guarded: Guarded, tmp_path: Path, own_topics: bool
) -> None:
    delete(guarded, *all_topics(fleet_of(guarded)))
    guarded.take_all()
    if own_topics:
        guarded.grant(*COMMANDS[:3])
    else:
        guarded.grant(*COMMANDS[:2])
        Topics(fleet_of(guarded, "PLAIN")).make_ready()
    before = len(denied(guarded))
    with (
        MockCollector() as upstream,
        MockCollector(script="400*") as refusing,
    ):
        destinations = {
            "mock": {"endpoint": upstream.endpoint, "signals": SIGNALS},
            "refusing": {"endpoint": refusing.endpoint},
        }
        keys: dict[str, Any] = {"brokers": guarded.brokers.at("SASL"), "sasl": ACCOUNT}
        keys["own_topics"] = own_topics
        with relay_of(guarded.brokers, tmp_path / "a", destinations, **keys) as relay:
            ids = everything(relay, upstream)
            assert ids <= arrived(upstream)
            assert "fleet_right_lacking" not in relay.log()
            assert "fleet_group_waits" not in relay.log()
            assert "uthorization" not in relay.log()
    assert denied(guarded)[before:] == []


def denied(guarded: Guarded) -> list[str]:
    """What the authorizer refused the account of the relay, by the broker's log."""
    text = guarded.brokers.node(1).log.read_text(errors="replace")
    return re.findall(r"Principal = User:relay is Denied operation = .*", text)


def everything(relay: Relay, upstream: MockCollector) -> set[str]:
    """Take, deliver, set aside, pause, look, send again, remove; the ids of what was taken."""
    made = [nth_request(number, 3) for number in range(len(MIXED))]
    assert {relay.send(each)[0] for each in made} == {200}
    ids = {item_id for each in made for item_id in each.ids}
    eventually(lambda: ids <= arrived(upstream), what="delivered")
    assert relay.post(REJECTED)[0] == 200
    eventually(lambda: "span_id_zero" in relay.run("dead-letter list").stdout, what="a dead letter")
    assert relay.run("dead-letter discard", "--all", "--yes").returncode == 0
    assert relay.run("destination pause", "mock").returncode == 0
    assert relay.run("destination resume", "mock").returncode == 0
    found = relay.run("fleet status").stdout
    assert "mock" in found, found
    trace = upstream.journal.spans()[0].trace_id
    eventually(lambda: "delivered" in relay.run("where", trace).stdout, what="where")
    done = relay.run("doctor").stdout
    assert "kafka-acls" not in done, done
    text = relay.config.read_text()
    relay.config.write_text(text[: text.index("[destinations.refusing]")])
    gone = relay.run("destination remove", "refusing", "--drop-waiting")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    return ids


CASES = {
    "read topics": ("topic", "Read", "may not Read topics "),
    "write topics": ("topic", "Write", "may not Write topics "),
    "describe configs": (
        "topic",
        "AlterConfigs DescribeConfigs",
        "may not DescribeConfigs topics ",
    ),
    "join groups": ("group", "Read", "may not Read group otlp-relay.prod.mock"),
    "delete groups": ("group", "Delete", "may not Delete group otlp-relay.prod.mock"),
    "delete records": ("topic", "Delete", "may not Delete topics otlp_logs, "),
    "create": ("topic", "Create", "may not Create topic otlp_relay_prod_history"),
    "alter configs": ("topic", "AlterConfigs", "may not AlterConfigs topic otlp_spans"),
}


def spoil(guarded: Guarded) -> None:
    """A topic is not there, and another is set otherwise: relays see to it, if they may."""
    delete(guarded, "otlp_relay_prod_history")
    how = KAFKA.AlterConfigOpType.SET
    entry = KAFKA.ConfigEntry("retention.ms", "1000", incremental_operation=how)
    kind = KAFKA.ConfigResource.Type.TOPIC
    resource = KAFKA.ConfigResource(kind, "otlp_spans", incremental_configs=[entry])
    for answer in guarded.admin.incremental_alter_configs([resource]).values():
        answer.result(60)


@pytest.mark.parametrize("case", CASES)
def test_a_right_that_lacks_is_named_with_the_command_that_grants_it(
    granted: Guarded, case: str
) -> None:
    kind, operations, words = CASES[case]
    *_, operation = operations.split()
    for each in operations.split():
        granted.take(each, kind)
    if operation in {"Create", "AlterConfigs"}:
        spoil(granted)
    topics = Topics(fleet_of(granted), GROUPS)

    def told() -> list[str]:
        return [each.words for each in look(topics, operation).remarks if words in each.words]

    (said,) = eventually(told, what=words)
    command = said[said.index("kafka-acls.sh") :]
    assert f"--operation {operation}" in command
    granted.grant(command)
    eventually(lambda: not told(), what="what was granted is not lacking")
    if kind == "topic" and operation in {"Read", "Write", "DescribeConfigs"}:
        assert all(f"--topic {each}" in command for each in all_topics(fleet_of(granted)))


def look(topics: Topics, operation: str) -> Promise:
    """What is said at a start where topics have to be seen to, and by `doctor` elsewhere."""
    is_start = operation in {"Create", "AlterConfigs"}
    return topics.make_ready() if is_start else topics.examine()


def test_a_history_topic_that_nobody_made_is_named_by_doctor_and_keeps_a_relay_from_starting(
    granted: Guarded, tmp_path: Path
) -> None:
    delete(granted, "otlp_relay_prod_history")
    keys: dict[str, Any] = {
        "brokers": granted.brokers.at("SASL"),
        "sasl": ACCOUNT,
        "own_topics": False,
    }
    relay = relay_of(granted.brokers, tmp_path / "a", **keys)
    words = "there is no topic otlp_relay_prod_history: kafka-topics.sh --bootstrap-server "
    assert words in relay.run("doctor").stdout
    relay.start(wait=False)
    assert relay.wait() != 0
    assert words in relay.log()


def test_rights_that_are_taken_from_a_running_relay_are_named_and_it_goes_on_once_they_are_back(
    granted: Guarded, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"brokers": granted.brokers.at("SASL"), "sasl": ACCOUNT}
    with MockCollector() as upstream:
        destinations = {"mock": {"endpoint": upstream.endpoint}}
        with relay_of(granted.brokers, tmp_path / "a", destinations, **keys) as relay:
            made = nth_request(0, 1)
            assert relay.send(made)[0] == 200
            granted.take("Write", "topic")
            eventually(lambda: relay.send(nth_request(0, 1))[0] == 503, what="503")

            def refusal() -> str:
                reason = str(relay.status()["not_ready_reason"])
                return reason if "may not Write topics " in reason else ""

            reason = eventually(refusal, what="not ready")
            assert not relay.is_ready()
            assert "kafka-acls.sh" not in relay.send(nth_request(0, 1))[1].decode()
            granted.grant(reason[reason.index("kafka-acls.sh") :])
            eventually(relay.is_ready, what="ready")

            granted.take("Read", "group")
            words = "may not Read group otlp-relay.prod.mock"
            eventually(lambda: words in relay.status()["buffer"]["promise"], seconds=40, what=words)
            assert relay.is_ready()
            assert words in relay.run("status").stdout
            later = nth_request(0, 1)
            assert relay.send(later)[0] == 200
            granted.grant(*COMMANDS[:2])
            eventually(lambda: set(later.ids) <= arrived(upstream), seconds=30, what="delivered")
