"""The container image of the mock collector."""

import http.client
import json
from typing import Any

import pytest

from tests.e2e import images
from tests.e2e.containers import LABELS, daemon, remove
from tests.support.ports import free_port
from tests.support.relay_process import eventually

pytestmark = pytest.mark.e2e


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_image_serves_without_any_right_and_can_be_asked() -> None:
    port, control = free_port(), free_port()
    container = daemon().containers.run(
        images.own("mockcollector"),
        ["serve", "--script", "503"],
        detach=True,
        labels=LABELS,
        read_only=True,
        cap_drop=["ALL"],
        ports={"4318/tcp": ("127.0.0.1", port), "4320/tcp": ("127.0.0.1", control)},
    )
    try:
        eventually(lambda: b"listens on" in container.logs())
        assert ask(port, "POST", "/v1/traces", b"{}")[0] == 503
        assert ask(port, "POST", "/v1/traces", b"{}") == (200, {})
        assert ask(control, "GET", "/counts")[1]["requests"] == 2
        container.stop(timeout=10)
        assert container.wait()["StatusCode"] == 0
        assert b"mockcollector stopped: 2 requests" in container.logs()
    finally:
        remove(container)
