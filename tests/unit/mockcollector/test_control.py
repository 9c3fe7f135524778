"""The control API over real sockets: ask the journal, set the script, wait."""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mockcollector import MockCollector
from tests.unit.mockcollector.exchange import (
    InThread,
    attribute_json,
    logs_json,
    metrics_json,
    point_json,
    record_json,
    request_json,
    send,
    span_json,
    sum_json,
)


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


def test_log_records_and_data_points_are_found_like_spans(collector: MockCollector) -> None:
    region = {"attributes": [attribute_json("region", stringValue="eu")]}
    send(collector, logs_json(record_json(**region), record_json()), path="/v1/logs")
    points = sum_json(point_json(2), point_json(1, **region), point_json(2.5))
    send(collector, metrics_json(points), path="/v1/metrics")

    for query, count in (("attribute=region%3Deu", 1), ("severity_number=9", 2), ("body=x", 0)):
        status, found = ask(collector, "GET", f"/log-records?{query}")
        assert (status, len(found["log_records"])) == (200, count), query
    _, found = ask(collector, "GET", "/data-points?name=orders")
    assert [point["value"] for point in found["data_points"]] == [2, 1, 2.5]  # as they came
    _, found = ask(collector, "GET", "/data-points?value=2.5&kind=sum")
    assert found["data_points"][0] == {
        "name": "orders",
        "description": "",
        "unit": "1",
        "kind": "sum",
        "temporality": 2,
        "is_monotonic": True,
        "start_time_unix_nano": "0",
        "time_unix_nano": "1767225600000000000",
        "value": 2.5,
        "count": None,
        "sum": None,
        "min": None,
        "max": None,
        "bucket_counts": None,
        "explicit_bounds": None,
        "flags": 0,
        "attributes": {},
        "scope": {"name": "lib", "version": ""},
        "scope_attributes": {},
        "scope_schema_url": "",
        "resource": {"service.name": "shop"},
        "resource_schema_url": "",
        "request_number": 2,
        "is_accepted": True,
    }
    _, found = ask(collector, "POST", "/log-records", {"attributes": {"region": "eu"}})
    assert found["log_records"][0]["body"] == "paid"
    _, listed = ask(collector, "GET", "/requests?signal=logs")
    assert [(each["signal"], each["log_records"]) for each in listed["requests"]] == [("logs", 2)]


def test_items_of_other_signals_are_asserted_waited_for_and_counted(
    collector: MockCollector,
) -> None:
    send(collector, logs_json(), path="/v1/logs")
    send(collector, metrics_json(), path="/v1/metrics")

    met = ask(collector, "POST", "/assert?signal=logs", {"body": "paid"})
    missed = ask(collector, "POST", "/assert?signal=metrics", {"name": "orders", "value": 2})
    assert (met[0], met[1]["log_record"]["severity_number"]) == (200, 9)
    assert missed[0] == 409
    assert "value: wanted 2, found 1" in missed[1]["error"]
    status, counts = ask(collector, "POST", "/wait", {"log_records": 1, "timeout": 5})
    assert (status, counts["log_records_accepted"], counts["data_points_accepted"]) == (200, 1, 1)
    assert ask(collector, "POST", "/wait", {"data_points": 2, "timeout": 0})[0] == 409
    waited = ask(collector, "POST", "/wait", {"data_point": {"name": "orders"}, "timeout": 5})
    assert waited[1]["data_point"]["value"] == 1
    assert ask(collector, "POST", "/assert?signal=log", {})[0] == 400
    wrong = ask(collector, "GET", "/log-records?name=x")
    assert (wrong[0], "cannot be asked of a log record" in wrong[1]["error"]) == (400, True)


def test_hostile_names_move_nothing_in_the_terminal_of_who_asks(collector: MockCollector) -> None:
    evil = "\x1b]0;x\x07\x9b2J\x7f\u202e"
    send(collector, request_json(span_json(name=evil)))
    port = urlsplit(collector.control_url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/spans")
    told = connection.getresponse().read()
    connection.close()

    assert all(32 <= byte < 127 for byte in told)
    assert json.loads(told)["spans"][0]["name"] == evil


def test_spans_are_listed_by_the_page(collector: MockCollector) -> None:
    send(collector, request_json(*(span_json(number) for number in range(1, 6))))

    _, found = ask(collector, "GET", "/spans?limit=2&offset=1&kind=1")
    assert ([span["name"] for span in found["spans"]], found["total"]) == (["span 2", "span 3"], 5)
    _, found = ask(collector, "POST", "/spans", {"limit": 1, "name": "span 4"})
    assert ([span["name"] for span in found["spans"]], found["total"]) == (["span 4"], 1)
    assert ask(collector, "GET", "/spans?limit=x")[0] == 400


def test_one_request_is_shown_with_its_body_and_no_secret(collector: MockCollector) -> None:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer s3cret", "X-A": "b"}
    send(collector, b'{"resourceSpans": []}', headers=headers)

    status, shown = ask(collector, "GET", "/requests/1")
    assert (status, shown["body_text"]) == (200, '{"resourceSpans": []}')
    assert ["x-a", "b"] in shown["headers"]
    assert ["authorization", None] in shown["headers"]
    assert shown["connection"] == 1
    assert ask(collector, "GET", "/requests/2")[0] == 404


def test_there_must_be_no_such_span(collector: MockCollector) -> None:
    send(collector, request_json(span_json(name="pay")))

    assert ask(collector, "POST", "/assert-none", {"name": "buy"})[0] == 200
    status, found = ask(collector, "POST", "/assert-none", {"name": "pay"})
    assert (status, "1 spans have what none should" in found["error"]) == (409, True)


def test_upstream_goes_down_and_comes_back_while_it_can_be_asked(collector: MockCollector) -> None:
    port = collector.port
    assert ask(collector, "POST", "/stop")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        send(collector, request_json())
    assert ask(collector, "GET", "/counts")[0] == 200
    assert ask(collector, "POST", "/start")[0] == 200
    assert send(collector, request_json()).status == 200
    assert collector.port == port


def test_required_headers_can_be_changed(collector: MockCollector) -> None:
    status, found = ask(collector, "PUT", "/required-headers", {"x-key": "new"})
    assert (status, found["header_names"]) == (200, ["x-key"])
    assert send(collector, request_json()).status == 401
    assert ask(collector, "PUT", "/required-headers", {"x key": "new"})[0] == 400


def test_what_was_no_request_is_listed(collector: MockCollector) -> None:
    with socket.create_connection((collector.host, collector.port), timeout=10) as sender:
        sender.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert sender.recv(1000)
    _, found = ask(collector, "GET", "/strangers")
    assert [each["kind"] for each in found["strangers"]] == ["grpc"]
    assert ask(collector, "GET", "/counts")[1]["strangers"] == {"grpc": 1}
