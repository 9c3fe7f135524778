"""Brokers that do not let a relay in: it says why and what to do, and goes on once it is let in."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from relay.buffer.kafka.access import BrokersAway
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.topics import Topics
from relay.config.fleet import FleetConfig, SaslConfig
from relay.config.secrets import Secret
from relay.model.errors import ConfigError
from tests.fleet.fleets import logged, relay_of
from tests.fleet.guarded import (
    MECHANISMS,
    PASSWORD,
    Guarded,
    files_of,
    grant_everything,
    guarded_broker,
)
from tests.support.certificates import DAY, NOW
from tests.support.load import MIXED, SIGNALS, Load, arrived, nth_request
from tests.support.relay_process import Relay, eventually

Files = dict[str, Path]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A broker where whoever gets in may do everything."""
    with guarded_broker(tmp_path_factory.mktemp("guarded")) as made:
        grant_everything(made, ["User:relay", "User:CN=client"])
        yield made


def sasl(mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD) -> SaslConfig:
    return SaslConfig(
        mechanism=mechanism,  # type: ignore[arg-type]
        username="relay",
        password=Secret(password),
    )


def trusting(guarded: Guarded) -> dict[str, Any]:
    return {"ca_file": Path(guarded.ca.file)}


def showing(guarded: Guarded, name: str) -> dict[str, Any]:
    """With a client certificate: "client", which is right, or one that is not."""
    if name == "expired-client":
        pair = guarded.ca.issue(name, begins=NOW - 2 * DAY, ends=NOW - DAY)
    else:
        pair = (guarded.stranger if name == "strange" else guarded.ca).issue(name)
    return {**trusting(guarded), **{key: Path(it) for key, it in files_of(pair).items()}}


Keys = Callable[[Guarded], dict[str, Any]]


def account(mechanism: str, password: str = PASSWORD) -> Keys:
    return lambda _guarded: {"sasl": sasl(mechanism, password)}


# The listener, the keys of `[fleet]`, and what is said; nothing where the relay is let in.
CASES: dict[str, tuple[str, Keys, str]] = {
    "TLS": ("TLS", trusting, ""),
    "another authority": (
        "TLS",
        lambda g: {"ca_file": Path(g.stranger.file)},
        "is not signed by an authority of .*stranger/ca.pem .*set fleet.ca_file",
    ),
    "an expired certificate": ("EXPIRED", trusting, "certificate of 127.* has expired: have it"),
    "another name": ("OTHERNAME", trusting, "certificate of 127.* is for another name: use a"),
    "no TLS there": ("PLAIN", trusting, "does not speak TLS .*remove fleet.ca_file"),
    "TLS there alone": ("TLS", lambda _: {}, "wants TLS: set fleet.ca_file"),
    "a client certificate": ("MUTUAL", lambda g: showing(g, "client"), ""),
    "no client certificate": ("MUTUAL", trusting, "wants a client certificate: set fleet.client_c"),
    "an expired client certificate": (
        "MUTUAL",
        lambda g: showing(g, "expired-client"),
        "does not accept fleet.client_cert .*expired-client.pem has expired: renew it",
    ),
    "a client certificate of another authority": (
        "MUTUAL",
        lambda g: showing(g, "strange"),
        "strange.pem must be signed by an authority that the brokers trust",
    ),
    **{f"{mechanism} right": ("SASL", account(mechanism), "") for mechanism in MECHANISMS["SASL"]},
    **{
        f"{mechanism} wrong": (
            "SASL",
            account(mechanism, "guessed"),
            f"refuses the account relay by {mechanism}: put username and password of fleet.sasl",
        )
        for mechanism in MECHANISMS["SASL"]
    },
    "account and TLS": ("BOTH", lambda g: {**trusting(g), "sasl": sasl()}, ""),
    "another mechanism": (
        "BOTH",
        lambda g: {**trusting(g), "sasl": sasl("PLAIN")},
        "does not take PLAIN, but SCRAM-SHA-512: set mechanism of fleet.sasl",
    ),
    "no accounts there": ("PLAIN", lambda _: {"sasl": sasl()}, "a listener without accounts"),
    "accounts there alone": (
        "SASL",
        lambda _: {},
        "closes connections: if it asks for accounts, set fleet.sasl",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_who_is_not_let_in_is_told_why_in_words_that_say_what_to_do(
    guarded: Guarded, case: str
) -> None:
    listener, keys, words = CASES[case]
    fleet = FleetConfig(brokers=tuple(guarded.brokers.at(listener)), **keys(guarded))
    topics = Topics(KafkaSettings(fleet, "r1"))
    if not words:
        assert len(topics.metadata().brokers) == 1
        return

    def told() -> str:  # a busy broker may take longer than that to say why
        with pytest.raises(BrokersAway) as caught:
            topics.metadata(1.0)
        return str(caught.value) if re.search(words, str(caught.value)) else ""

    said = eventually(told, what=words)
    assert "guessed" not in said
    assert PASSWORD not in said


def test_a_file_that_is_no_certificate_is_an_error_of_the_configuration(
    guarded: Guarded, tmp_path: Path
) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    fleet = FleetConfig(brokers=tuple(guarded.brokers.at("TLS")), ca_file=wrong)
    with pytest.raises(ConfigError, match="cannot be used"):
        Topics(KafkaSettings(fleet, "r1"))


def files_for(folder: Path, guarded: Guarded) -> Files:
    """What a relay reads of its access, all right."""
    folder.mkdir(exist_ok=True)
    certificate, key = guarded.ca.issue("client", ends=NOW + 100 * DAY)
    found = {
        "ca_file": folder / "ca.pem",
        "client_cert": folder / "client.pem",
        "client_key": folder / "client.key",
        "password": folder / "password",
    }
    shutil.copy(guarded.ca.file, found["ca_file"])
    shutil.copy(certificate, found["client_cert"])
    shutil.copy(key, found["client_key"])
    found["password"].write_text(f"{PASSWORD}\n")
    return found


def relay_at(
    guarded: Guarded,
    listener: str,
    folder: Path,
    files: Files,
    names: str,
    destinations: dict[str, Any] | None = None,
) -> Relay:
    """A relay of a fleet of its own that reads `files`."""
    keys: dict[str, Any] = {
        "brokers": guarded.brokers.at(listener),
        "name": names,
        "topic": f"{names}_spans",
        "topic_json": f"{names}_spans_json",
        **{key: str(files[key]) for key in files if key != "password"},
    }
    if listener in {"SASL", "BOTH"}:
        keys |= {"sasl": {"username": "relay", "password": f"${{file:{files['password']}}}"}}
    return relay_of(guarded.brokers, folder, destinations, **keys)


def spoil_authority(files: Files, guarded: Guarded) -> None:
    shutil.copy(guarded.stranger.file, files["ca_file"])


def spoil_certificate(files: Files, guarded: Guarded) -> None:
    expired = guarded.ca.issue("old", begins=NOW - 2 * DAY, ends=NOW - DAY)
    shutil.copy(expired[0], files["client_cert"])
    shutil.copy(expired[1], files["client_key"])


def spoil_password(files: Files, _guarded: Guarded) -> None:
    files["password"].write_text("guessed")


def reload(relay: Relay) -> str:
    """SIGHUP, and what came of it: the name of the event."""
    before = relay.log().count('"reloaded"'), relay.log().count('"reload_refused"')
    relay.signal(1)
    eventually(
        lambda: (relay.log().count('"reloaded"'), relay.log().count('"reload_refused"')) != before,
        what="the reload",
    )
    return "reloaded" if relay.log().count('"reloaded"') > before[0] else "reload_refused"


def says(relay: Relay, words: str) -> bool:
    """Whether its status gives that reason for not being ready."""
    try:
        return words in relay.status()["not_ready_reason"]
    except OSError:
        return False


@pytest.mark.parametrize(
    ("listener", "spoil", "words"),
    [
        ("TLS", spoil_authority, "is not signed by an authority of"),
        ("MUTUAL", spoil_certificate, "client.pem has expired"),
        ("BOTH", spoil_password, "refuses the account relay"),
    ],
)
def test_relay_that_is_not_let_in_says_so_everywhere_and_goes_on_once_it_is_put_right(
    guarded: Guarded,
    tmp_path: Path,
    listener: str,
    spoil: Callable[[Files, Guarded], None],
    words: str,
) -> None:
    files = files_for(tmp_path / "files", guarded)
    spoil(files, guarded)
    names = f"kept-out-{listener.lower()}"
    relay = relay_at(guarded, listener, tmp_path / "a", files, names)
    try:
        relay.start(wait=False)
        eventually(lambda: says(relay, words), what="the reason")
        assert relay.get("/readyz", parse=False)[0] == 503
        status, body = relay.send(nth_request(0, 1))
        assert status == 503, body
        assert '"fleet_away"' in relay.log()
        assert words in relay.log()
        assert words in relay.run("doctor").stdout
        assert words in relay.run("fleet status").stderr
        assert f"NOT READY: {relay.status()['not_ready_reason']}" in relay.run("status").stdout

        files_for(tmp_path / "files", guarded)
        assert reload(relay) == "reloaded"
        eventually(relay.is_ready, what="ready")
        assert "restart_needed" not in relay.log()
        made = nth_request(0, 1)
        eventually(lambda: relay.send(made)[0] == 200, what="a request that is taken")
        kept = logged(guarded.brokers, topic=f"{names}_spans", topic_json=f"{names}_spans_json")
        assert kept == set(made.ids)
    finally:
        relay.kill()


def test_a_relay_says_ahead_that_its_certificate_expires_until_it_is_renewed(
    guarded: Guarded, tmp_path: Path
) -> None:
    words = "fleet.client_cert expires in 5 days: renew it, then reload the relay"
    files = files_for(tmp_path / "files", guarded)
    relay = relay_at(guarded, "MUTUAL", tmp_path / "a", files, "expires-soon")
    soon = guarded.ca.issue("client", ends=NOW + 5 * DAY + DAY / 2)
    shutil.copy(soon[0], files["client_cert"])
    shutil.copy(soon[1], files["client_key"])
    with relay:
        eventually(lambda: words in relay.run("status").stdout, what="a warning")
        assert '"fleet_certificate_expires"' in relay.log()
        assert words in relay.run("doctor").stdout

        files_for(tmp_path / "files", guarded)
        assert reload(relay) == "reloaded"
        eventually(lambda: words not in relay.run("status").stdout, what="no warning")
        assert words not in relay.run("doctor").stdout


def test_a_relay_that_runs_takes_up_new_passwords_and_certificates_and_refuses_wrong_ones(
    guarded: Guarded, tmp_path: Path
) -> None:
    files = files_for(tmp_path / "files", guarded)
    with MockCollector() as upstream:
        keys = {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS}}
        relay = relay_at(guarded, "BOTH", tmp_path / "a", files, "renewed", keys)
        with relay, Load(relay.ingest_port, kinds=MIXED) as load:
            load.wait_for_more(100)
            spoil_password(files, guarded)
            assert reload(relay) == "reload_refused"
            assert "refuses the account relay" in relay.log()
            load.wait_for_more(100)
            try:
                guarded.set_password("the next one")
                files["password"].write_text("the next one")
                assert reload(relay) == "reloaded"
                load.wait_for_more(300)
                assert relay.is_ready()
                load.stop()
                eventually(lambda: load.acknowledged <= arrived(upstream), what="all delivered")
                eventually(lambda: relay.owed("mock") == 0, what="nothing owed")
            finally:
                guarded.set_password(PASSWORD)
            assert relay.log().count('"fleet_access_changed"') == 1
    assert load.statuses.keys() == {200}
    names = {"topic": "renewed_spans", "topic_json": "renewed_spans_json"}
    assert load.acknowledged <= logged(guarded.brokers, **names)


def test_a_certificate_that_is_renewed_on_the_brokers_needs_nothing_of_the_relay(
    guarded: Guarded, tmp_path: Path
) -> None:
    files = files_for(tmp_path / "files", guarded)
    relay = relay_at(guarded, "EXPIRED", tmp_path / "a", files, "expiring")
    try:
        relay.start(wait=False)
        eventually(lambda: says(relay, "has expired: have it renewed there"), what="the reason")
        guarded.show("EXPIRED", guarded.ca.issue("expired"))
        eventually(relay.is_ready, seconds=30, what="ready")
        assert relay.send(nth_request(0, 1))[0] == 200
    finally:
        expired = guarded.ca.issue("expired", begins=NOW - 2 * DAY, ends=NOW - DAY)
        guarded.show("EXPIRED", expired)
        relay.kill()
