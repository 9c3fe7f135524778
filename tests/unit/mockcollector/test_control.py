"""The control API over real sockets: ask the journal, set the script, wait."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mockcollector import MockCollector
from tests.unit.mockcollector.exchange import InThread, request_json, send, span_json


@pytest.fixture
def collector() -> Iterator[MockCollector]:
    with MockCollector(control_port=0) as started:
        yield started


def ask(
    collector: MockCollector, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    """Status and document of one request to the control API."""
    port = urlsplit(collector.control_url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_spans_are_found_by_name_trace_and_attribute(collector: MockCollector) -> None:
    attribute = {"key": "cents", "value": {"intValue": "250"}}
    send(collector, request_json(span_json(1, name="pay", attributes=[attribute]), span_json(2)))

    for query in ("name=pay", "attribute=cents%3D250"):
        status, found = ask(collector, "GET", f"/spans?{query}")
        assert status == 200
        assert [span["name"] for span in found["spans"]] == ["pay"], query
    _status, by_post = ask(collector, "POST", "/spans", {"attributes": {"cents": 250}})
    assert len(by_post["spans"]) == 1


def test_assert_answers_409_with_the_nearest_miss(collector: MockCollector) -> None:
    send(collector, request_json(span_json(1, name="pay")))
    met = ask(collector, "POST", "/assert", {"name": "pay"})
    missed = ask(collector, "POST", "/assert", {"name": "paid"})

    assert met[0] == 200
    assert missed[0] == 409
    assert "pay" in missed[1]["error"]


def test_script_is_set_asked_for_and_cleared(collector: MockCollector) -> None:
    assert ask(collector, "PUT", "/script", {"script": "503*2,ok"})[0] == 200
    assert send(collector, request_json()).status == 503
    assert ask(collector, "GET", "/script")[0] == 200
    assert ask(collector, "DELETE", "/script")[0] == 200
    assert send(collector, request_json()).status == 200


def test_wait_returns_when_the_spans_have_come_and_409_when_not(collector: MockCollector) -> None:
    waiting = InThread(lambda: ask(collector, "POST", "/wait", {"spans": 2, "timeout": 10}))
    send(collector, request_json(span_json(1), span_json(2)))

    assert waiting.result()[0] == 200
    assert ask(collector, "POST", "/wait", {"spans": 3, "timeout": 0})[0] == 409


def test_journal_is_counted_and_cleared(collector: MockCollector) -> None:
    send(collector, request_json())
    assert ask(collector, "GET", "/counts")[1]["spans_accepted"] == 1
    assert ask(collector, "DELETE", "/journal")[0] == 200
    assert ask(collector, "GET", "/counts")[1]["spans_accepted"] == 0


def test_requests_show_header_names_and_no_values(collector: MockCollector) -> None:
    send(
        collector,
        request_json(),
        headers={"Content-Type": "application/json", "X-Key": "canary-1"},
    )
    status, found = ask(collector, "GET", "/requests?header=x-key")

    assert status == 200
    assert len(found["requests"]) == 1
    assert "canary-1" not in json.dumps(found)


def test_released_request_is_answered(collector: MockCollector) -> None:
    assert ask(collector, "PUT", "/script", {"script": "hang"})[0] == 200
    sending = InThread(lambda: send(collector, request_json(), timeout=20))
    assert ask(collector, "POST", "/wait", {"requests": 1, "timeout": 10})[0] == 200
    assert ask(collector, "POST", "/release")[0] == 200

    assert sending.result().status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/wait", {"spans": "many"}),
        ("POST", "/wait", {}),
        ("PUT", "/script", {"script": "nonsense"}),
        ("GET", "/spans?colour=red", None),
        ("GET", "/requests?status=x", None),
        ("POST", "/assert", {"nonsense": 1}),
    ],
)
def test_wrong_order_is_a_400_that_says_what_is_wrong(
    collector: MockCollector, method: str, path: str, body: Any
) -> None:
    status, found = ask(collector, method, path, body)

    assert status == 400
    assert found["error"]


def test_unknown_path_is_404_and_traces_are_not_taken_there(collector: MockCollector) -> None:
    assert ask(collector, "GET", "/nothing")[0] == 404
    assert ask(collector, "POST", "/v1/traces", request_json())[0] == 404
    assert ask(collector, "GET", "/")[1]["endpoint"] == collector.endpoint
