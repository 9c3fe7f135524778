"""A real OpenTelemetry Collector that asks for tokens, as a destination: what it says and gets."""

import base64
import json
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.collector import Collector
from tests.e2e.collector_configs import to_jaeger
from tests.e2e.jaeger import Jaeger, spans_of
from tests.e2e.sent import SPANS, post_trace
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.e2e

MakeCollector = Callable[..., Collector]
RIGHT, WRONG = "right-token-of-the-collector", "wrong-token-of-somebody-else"
USER = "user:password-of-the-user"
ITS_WORDS = "provided authorization does not match expected scheme or token"


def in_jaeger(jaeger: Jaeger, trace_id: str) -> int:
    """How many spans of a trace Jaeger has, once it has them all."""
    return len(spans_of(jaeger.wait_for(trace_id, spans=SPANS, seconds=60)))


def in_base64(text: str) -> str:
    """The text as Basic wants it."""
    return base64.b64encode(text.encode()).decode()


def moment(text: str) -> float:
    """A time of the status, in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def seconds_to(text: str) -> float:
    """How far away a time of the status is."""
    return moment(text) - time.time()


def bearer(collector: Collector, token: str, **more: str) -> dict[str, dict[str, Any]]:
    """The Collector as a destination, with `token` as it stands in the configuration."""
    headers = {"Authorization": f"Bearer {token}"}
    return {"collector": {"endpoint": collector.endpoint, "headers": headers, **more}}


def settled(relay: Relay, seconds: float = 20.0) -> dict[str, Any]:
    """The destination's part of the status, once one trace is delivered and nothing is owed."""

    def found() -> dict[str, Any]:
        told = relay.destination("collector")
        is_done = (told["waiting_spans"], told["delivered_spans"]) == (0, SPANS)
        return told if is_done else {}

    return eventually(found, seconds=seconds, what="a delivered trace")


class Refused:
    """A relay that the Collector refuses, and the trace that is therefore still owed."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.trace_id = post_trace(relay)

    def state(self) -> dict[str, Any]:
        """The destination's part of the status."""
        return self.relay.destination("collector")

    def next_try(self) -> str:
        """When it is probed next: a time far enough away that a test can act before it."""
        return str(
            eventually(
                lambda: (
                    (found := self.state())["state"] == "blocked"
                    and found["next_try_at"]
                    and seconds_to(found["next_try_at"]) > 3
                    and found["next_try_at"]
                ),
                what="a blocked destination with its next probe some seconds away",
            )
        )

    def is_all_owed(self) -> bool:
        """Whether nothing of what was posted is delivered, refused or set aside."""
        status = self.relay.status()
        (found,) = status["destinations"]
        spans = [found[f"{what}_spans"] for what in ("waiting", "delivered", "refused")]
        return spans == [SPANS, 0, 0] and status["buffer"]["dead_letters"] == 0


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_spans_arrive_behind_a_collector_that_wants_a_token(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    jaeger: Jaeger,
    collector: MakeCollector,
    encoding: str,
    compression: str,
) -> None:
    destination = bearer(
        collector(to_jaeger(token=RIGHT)), RIGHT, encoding=encoding, compression=compression
    )
    with Relay(tmp_path, destination, executable=relay_command) as relay:
        trace_id = post_trace(relay)

        assert in_jaeger(jaeger, trace_id) == SPANS
        assert settled(relay)["refused_spans"] == 0


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_status_shows_the_collectors_own_words_when_the_token_is_wrong(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    jaeger: Jaeger,
    collector: MakeCollector,
    encoding: str,
) -> None:
    (tmp_path / "token").write_text(WRONG + "\n")
    destination = bearer(collector(to_jaeger(token=RIGHT)), "${file:token}", encoding=encoding)
    with Relay(tmp_path, destination, executable=relay_command) as relay:
        refused = Refused(relay)
        refused.next_try()
        shown = relay.run("status")

        assert shown.returncode == 0, shown.stderr
        for part in ("blocked", "401 Unauthorized", ITS_WORDS, "Authorization", str(SPANS)):
            assert part in shown.stdout, shown.stdout
        everything = shown.stdout + json.dumps(relay.status()) + relay.log()
        assert WRONG not in everything
        assert refused.is_all_owed()
        assert jaeger.find(refused.trace_id) is None


def test_spans_arrive_at_once_when_the_token_is_mended_and_sighup_comes(
    tmp_path: Path, relay_command: tuple[str, ...], jaeger: Jaeger, collector: MakeCollector
) -> None:
    (tmp_path / "token").write_text(WRONG)
    destination = bearer(collector(to_jaeger(token=RIGHT)), "${file:token}")
    with Relay(tmp_path, destination, executable=relay_command) as relay:
        refused = Refused(relay)
        next_try = refused.next_try()
        assert refused.is_all_owed()
        (tmp_path / "token").write_text(RIGHT)
        relay.signal(signal.SIGHUP)
        told = settled(relay)

        assert moment(told["last_success_at"]) < moment(next_try)  # it did not wait for its probe
        assert told["state"] in ("idle", "delivering")
        assert in_jaeger(jaeger, refused.trace_id) == SPANS


def test_spans_arrive_at_the_next_probe_when_the_token_is_mended_and_nobody_says_so(
    tmp_path: Path, relay_command: tuple[str, ...], jaeger: Jaeger, collector: MakeCollector
) -> None:
    (tmp_path / "token").write_text(WRONG)
    destination = bearer(collector(to_jaeger(token=RIGHT)), "${file:token}")
    with Relay(tmp_path, destination, executable=relay_command) as relay:
        refused = Refused(relay)
        next_try = refused.next_try()
        (tmp_path / "token").write_text(RIGHT)
        eventually(lambda: seconds_to(next_try) < 0.5)
        was_all_owed = refused.is_all_owed() or seconds_to(next_try) < 0  # asked too late
        told = settled(relay, seconds=7)  # the probe after the next would be 8 s later

        assert was_all_owed
        assert moment(told["last_success_at"]) >= moment(next_try)
        assert "reloaded" not in relay.log()
        assert in_jaeger(jaeger, refused.trace_id) == SPANS


def test_spans_survive_kill_and_restart_while_the_token_is_wrong(
    tmp_path: Path, relay_command: tuple[str, ...], jaeger: Jaeger, collector: MakeCollector
) -> None:
    (tmp_path / "token").write_text(WRONG)
    destination = bearer(collector(to_jaeger(token=RIGHT)), "${file:token}")
    with Relay(tmp_path, destination, executable=relay_command) as relay:
        refused = Refused(relay)
        refused.next_try()
        relay.kill()
        (tmp_path / "token").write_text(RIGHT)
        relay.start()

        assert in_jaeger(jaeger, refused.trace_id) == SPANS


def test_status_tells_of_the_missing_header_when_there_is_none(
    tmp_path: Path, relay_command: tuple[str, ...], collector: MakeCollector
) -> None:
    destination = {"collector": {"endpoint": collector(to_jaeger(token=RIGHT)).endpoint}}
    with Relay(tmp_path, destination, executable=relay_command) as relay:
        Refused(relay).next_try()
        shown = relay.run("status").stdout

        assert "missing or empty authorization header: Authorization" in shown
        assert (
            "no header is set); add the header with its token, such as Authorization: Bearer TOKEN"
            in shown
        )


@pytest.mark.parametrize("place", ["header", "URL"])
def test_spans_arrive_behind_a_collector_that_wants_user_and_password(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    jaeger: Jaeger,
    collector: MakeCollector,
    place: str,
) -> None:
    endpoint = collector(to_jaeger(basic=USER)).endpoint
    destination: dict[str, Any] = {"endpoint": endpoint}
    if place == "header":
        destination["headers"] = {"Authorization": f"Basic {in_base64(USER)}"}
    else:
        destination["endpoint"] = endpoint.replace("//", f"//{USER}@")
    with Relay(tmp_path, {"collector": destination}, executable=relay_command) as relay:
        trace_id = post_trace(relay)

        assert in_jaeger(jaeger, trace_id) == SPANS
        everything = relay.run("status").stdout + json.dumps(relay.status()) + relay.log()
        for secret in (in_base64(USER), USER.partition(":")[2]):
            assert secret not in everything


def test_status_shows_the_collectors_own_words_when_the_password_is_wrong(
    tmp_path: Path, relay_command: tuple[str, ...], collector: MakeCollector
) -> None:
    endpoint = collector(to_jaeger(basic=USER)).endpoint
    wrong = in_base64("user:wrong-password")
    destination = {"endpoint": endpoint, "headers": {"Authorization": f"Basic {wrong}"}}
    with Relay(tmp_path, {"collector": destination}, executable=relay_command) as relay:
        Refused(relay).next_try()
        shown = relay.run("status").stdout

        assert "401 Unauthorized: “invalid credentials”" in shown
        for secret in (wrong, "wrong-password"):
            assert secret not in shown + json.dumps(relay.status()) + relay.log()
