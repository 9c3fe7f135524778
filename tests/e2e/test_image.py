"""The container image, and the `compose.yaml` that shows it with an app and Jaeger."""

import http.client
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from tests.e2e import images
from tests.e2e.compose import TOKEN, Compose
from tests.e2e.containers import LABELS, Ground, daemon, remove
from tests.e2e.jaeger import spans_of
from tests.support.load import Load
from tests.support.ports import free_port
from tests.support.relay_process import eventually

pytestmark = pytest.mark.e2e

STATE = "/var/lib/otlp-relay"
MOST_MIB = 250
MOST_START_SECONDS = 15.0  # two are usual; other tests' machines are slow
# As careful people run containers.
LOCKED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


@pytest.fixture(scope="module")
def image(ground: Ground) -> str:
    """The image of this checkout."""
    return images.own()


@pytest.fixture
def compose(ground: Ground, image: str, tmp_path: Path) -> Iterator[Compose]:
    """All three services, running; the relay is healthy."""
    with Compose(tmp_path) as up:
        up.wait_until_healthy()
        yield up


@pytest.fixture
def volume() -> Iterator[str]:
    """The name of an empty volume."""
    client = daemon()
    made = client.volumes.create(labels=LABELS)
    try:
        yield made.name
    finally:
        made.remove()
        client.close()


@contextmanager
def running(image: str, volume: str, **settings: Any) -> Iterator[Container]:
    """A relay with a token and that volume."""
    client = daemon()
    environment = {"RELAY_TOKEN": TOKEN, **settings.pop("environment", {})}
    container = client.containers.run(
        image, detach=True, labels=LABELS, environment=environment,
        volumes={volume: {"bind": STATE, "mode": "rw"}}, **{**LOCKED, **settings},
    )  # fmt: skip
    try:
        yield container
    finally:
        remove(container)
        client.close()


def health_of(container: Container) -> str:
    container.reload()
    state = container.attrs["State"]
    assert state["Running"], container.logs().decode()[-4000:]
    return str(state["Health"]["Status"])


def wait_until_healthy(container: Container) -> None:
    eventually(lambda: health_of(container) == "healthy", seconds=60, what="health")


def otlp_relay(container: Container, *words: str) -> str:
    """What the command prints in the container; it must end well."""
    return said_by(container, "otlp-relay", *words)


def posted_trace(container: Container) -> str:
    """What `send-test-trace` tells, where no destination is to have it."""
    return said_by(container, "sh", "-c", "otlp-relay send-test-trace || [ $? = 1 ]")


def said_by(container: Container, *command: str) -> str:
    code, said = container.exec_run(list(command))
    assert isinstance(said, bytes)
    assert code == 0, said.decode()
    return said.decode()


def test_span_of_the_app_is_in_jaeger_and_where_tells_its_way(compose: Compose) -> None:
    trace = eventually(
        lambda: re.findall(r"trace ([0-9a-f]{32})", compose.run("logs", "--no-color", "app")),
        what="a trace of the app",
    )[0]
    shown = compose.jaeger.wait_for(trace, spans=2)
    told = compose.otlp_relay("where", trace)

    assert {span["name"] for span in spans_of(shown)} == {"checkout", "charge card"}
    assert "from shop at " in told
    assert re.search(r"delivered +to env \(http://jaeger:4318/v1/traces\) at \S+: 200", told)


def test_killed_container_comes_back_and_has_lost_nothing(compose: Compose) -> None:
    with Load(compose.relay_port, token=TOKEN) as load:
        load.wait_for_more(300)
        compose.kill("relay")
        load.wait_for_more(300, seconds=60)
    compose.wait_until_healthy(restarts=1)
    wanted = {each[-16:] for each in load.acknowledged}

    eventually(
        lambda: wanted <= {span["spanId"] for span in compose.jaeger.find_all("load")},
        seconds=60,
        what=f"all of {len(wanted)} acknowledged spans in Jaeger",
    )
    assert load.broken > 0  # it was away


@pytest.mark.parametrize("user", ["10001:10001", "54321:0", "54321:54321"])
def test_any_user_and_a_read_only_root_will_do(image: str, volume: str, user: str) -> None:
    with running(image, volume, user=user) as container:
        wait_until_healthy(container)
        told = posted_trace(container)
        owner = said_by(container, "stat", "-c", "%u:%g %a", f"{STATE}/state")
        log = container.logs().decode()

    assert "kept       row 1" in told
    assert owner == f"{user} 700\n"
    assert '"level": "error"' not in log
    assert "Traceback" not in log


def test_new_container_on_the_same_volume_has_what_the_old_one_kept(
    image: str, volume: str
) -> None:
    with running(image, volume) as first:
        wait_until_healthy(first)
        trace = posted_trace(first).split()[1]
        # Nothing answers there.
        otlp_relay(first, "destination", "add", "later", "--endpoint",
                   "http://127.0.0.1:9/v1/traces", "--save-anyway")  # fmt: skip
        began = time.monotonic()
        first.stop(timeout=40)
        took = time.monotonic() - began
        first.reload()
        code = first.attrs["State"]["ExitCode"]
    with running(image, volume) as second:
        wait_until_healthy(second)
        told = otlp_relay(second, "where", trace)
        listed = otlp_relay(second, "destination", "list")

    assert (code, took < 10) == (0, True)  # SIGTERM was heard
    assert "kept       on disk, in row 1" in told
    assert "later" in listed


def test_without_a_token_it_does_not_start_and_says_what_to_set(image: str, volume: str) -> None:
    with running(image, volume, environment={"RELAY_TOKEN": ""}) as container:
        code = container.wait(timeout=30)["StatusCode"]
        said = container.logs().decode()

    assert code == 2
    assert "RELAY_TOKEN" in said


def test_image_is_small_belongs_to_no_root_and_starts_soon(image: str, volume: str) -> None:
    client = daemon()
    try:
        found = client.images.get(image)
        mib = found.attrs["Size"] / 2**20
        base = client.images.get(images.ready("base")).attrs["Size"] / 2**20
    finally:
        client.close()
    port = free_port()
    began = time.monotonic()
    with running(image, volume, ports={"4381/tcp": ("127.0.0.1", port)}):
        eventually(lambda: answers(port), seconds=60, what="/readyz")
        took = time.monotonic() - began
    print(f"image {mib:.0f} MiB, of which its base {base:.0f}; ready {took:.2f} s after docker run")

    assert mib < MOST_MIB
    assert took < MOST_START_SECONDS
    assert found.attrs["Config"]["User"] == "10001:10001"
    assert found.attrs["Config"]["StopSignal"] == "SIGTERM"


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
