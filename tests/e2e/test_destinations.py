"""`destination add` against real backends: what passes is saved, what does not is not."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.collector import Collector
from tests.e2e.collector_configs import to_jaeger
from tests.e2e.jaeger import Jaeger
from tests.e2e.phoenix import Phoenix
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
