"""`destination add` against real backends: what passes is saved, what does not is not."""

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import images
from tests.e2e.collector import Collector
from tests.e2e.collector_configs import to_jaeger
from tests.e2e.containers import Ground
from tests.e2e.jaeger import Jaeger
from tests.e2e.phoenix import Phoenix
from tests.e2e.receivers import (
    PROMETHEUS,
    VICTORIA_LOGS,
    VICTORIA_METRICS,
    Kind,
    Receiver,
)
from tests.e2e.sent import SPANS, post_trace
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.e2e

RIGHT, WRONG = "right-token-of-the-collector", "wrong-canary-token"
USER = "user:password-of-the-user"


@pytest.fixture
def relay(tmp_path: Path, relay_command: tuple[str, ...]) -> Iterator[Relay]:
    """A running relay without any destination."""
    with Relay(tmp_path, executable=relay_command) as started:
        yield started


@pytest.fixture(scope="session")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    with Phoenix(tmp_path_factory.mktemp("phoenix")) as started:
        yield started


def saved(relay: Relay, name: str) -> Path:
    return relay.folder / "destinations.d" / f"{name}.toml"


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("asks", "right", "wrong"),
    [
        ({"token": RIGHT}, f"Bearer {RIGHT}", f"Bearer {WRONG}"),
        ({"basic": USER}, f"Basic {in_base64(USER)}", f"Basic {in_base64(f'user:{WRONG}')}"),
    ],
    ids=["bearertokenauth", "basicauth"],
)
def test_collector_is_added_with_the_right_credentials_only(
    relay: Relay,
    jaeger: Jaeger,
    collector: Callable[..., Collector],
    asks: dict[str, str],
    right: str,
    wrong: str,
) -> None:
    endpoint = collector(to_jaeger(**asks)).endpoint
    arguments = ("destination add", "backend", "--preset", "otel-collector", "--endpoint", endpoint)
    refused = relay.run(*arguments, "--header", f"Authorization={wrong}")
    assert refused.returncode == 1
    assert "401" in refused.stdout + refused.stderr
    assert WRONG not in refused.stdout + refused.stderr
    assert not saved(relay, "backend").exists()

    added = relay.run(*arguments, "--header", f"Authorization={right}")
    trace_id = post_trace(relay)

    assert added.returncode == 0, added.stdout + added.stderr
    assert saved(relay, "backend").stat().st_mode & 0o777 == 0o600
    jaeger.wait_for(trace_id, spans=SPANS, seconds=30)
    assert WRONG not in relay.log()


def test_jaeger_is_added_and_gets_spans_at_once(relay: Relay, jaeger: Jaeger) -> None:
    added = relay.run(
        "destination add", "jaeger", "--preset", "jaeger", "--endpoint", jaeger.endpoint
    )
    trace_id = post_trace(relay)

    assert added.returncode == 0, added.stdout + added.stderr
    jaeger.wait_for(trace_id, spans=SPANS, seconds=30)


def test_phoenix_refuses_json_and_is_saved_with_protobuf(relay: Relay, phoenix: Phoenix) -> None:
    tested = relay.run("doctor", "--endpoint", phoenix.endpoint)
    added = relay.run("destination add", "phoenix", "--endpoint", phoenix.endpoint)
    trace_id = post_trace(relay)  # in JSON

    assert "JSON was refused, protobuf accepted" in tested.stdout
    assert added.returncode == 0, added.stdout + added.stderr
    assert 'encoding = "protobuf"' in saved(relay, "phoenix").read_text()
    eventually(lambda: trace_id in phoenix.trace_ids(), seconds=30, what="the trace in Phoenix")


@pytest.mark.parametrize(
    ("kind", "preset"),
    [
        (PROMETHEUS, "prometheus"),
        (VICTORIA_METRICS, "victoria-metrics"),
        (VICTORIA_LOGS, "victoria-logs"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_receiver_of_one_signal_is_added_and_keeps_the_test_item(
    relay: Relay, ground: Ground, tmp_path: Path, kind: Kind, preset: str
) -> None:
    word = "logs" if kind is VICTORIA_LOGS else "metrics"
    with Receiver(ground, images.ready(kind.image), kind, tmp_path) as real:
        added = relay.run("destination add", "up", "--preset", preset, "--endpoint", real.endpoint)
        plain = relay.run(
            "destination add", "plain", "--endpoint", real.endpoint, "--signals", word
        )
        astray = relay.run(
            "doctor", "--preset", preset, "--endpoint", real.endpoint.rpartition("/v1")[0]
        )
        real.flush()

        assert added.returncode == 0, added.stdout + added.stderr
        assert plain.returncode == 0, plain.stdout + plain.stderr
        refuses_json = kind is not PROMETHEUS
        assert ('encoding = "protobuf"' in saved(relay, "plain").read_text()) is refuses_json
        assert f"did you mean {real.endpoint}? There it answers 200" in astray.stdout

        def found() -> object:
            if kind is VICTORIA_LOGS:
                return real.lines('"otlp-relay connection test"')
            return real.samples('{__name__=~"otlp_relay.connection_test.*"}', time.time())

        eventually(found, what=f"the test item in {preset}")


def test_collector_without_a_pipeline_for_logs_is_added_for_what_it_takes(
    relay: Relay, jaeger: Jaeger, collector: Callable[..., Collector]
) -> None:
    endpoint = collector(to_jaeger()).endpoint
    arguments = ("destination add", "up", "--preset", "otel-collector", "--endpoint", endpoint)
    refused = relay.run(*arguments, "--signals", "traces,logs")
    added = relay.run(*arguments, "--signals", "traces")

    assert refused.returncode == 1
    assert "it has no pipeline for logs" in refused.stderr
    assert "`--signals traces` saves that" in refused.stderr
    assert added.returncode == 0, added.stderr
