"""The control API where it waits, ends, or is asked for what it does not do."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mockcollector import MockCollector
from tests.unit.mockcollector.exchange import (
    JSON,
    InThread,
    attribute_json,
    request_json,
    request_proto,
    send,
    span_json,
)


@pytest.fixture
def collector() -> Iterator[MockCollector]:
    with MockCollector(control_port=0) as started:
        yield started


def ask(
    collector: MockCollector,
    method: str,
    path: str,
    body: Any = None,
    content_type: str = "application/json",
) -> tuple[int, dict[str, Any]]:
    port = urlsplit(collector.control_url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def begin_wait(collector: MockCollector) -> socket.socket:
    """A wait for one span that is under way, on a connection of its own."""
    body = b'{"spans": 1, "timeout": 600}'
    address = ("127.0.0.1", urlsplit(collector.control_url).port or 0)
    there = socket.create_connection(address, timeout=20)
    head = f"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    there.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
    until(collector, lambda: bool(collector.journal._watched._waiters))
    return there


def until(collector: MockCollector, is_so: Callable[[], bool]) -> None:
    """Let the collector's loop turn, by asking it something, until it is so."""
    for _ in range(500):
        if is_so():
            return
        ask(collector, "GET", "/counts")
    raise AssertionError("it never came to be so")


def test_there_is_no_control_api_unless_it_is_asked_for() -> None:
    with MockCollector() as collector:
        assert not collector.has_control
        with pytest.raises(RuntimeError, match="no control API"):
            _ = collector.control_url
        assert send(collector, path="/counts", method="GET").status == 404


def test_control_keeps_its_port_over_a_restart(collector: MockCollector) -> None:
    before = collector.control_url
    collector.restart()

    assert collector.control_url == before
    assert ask(collector, "GET", "/counts")[0] == 200


def test_stopping_answers_a_wait_with_503(collector: MockCollector) -> None:
    with begin_wait(collector) as waiting:
        collector.stop()

        assert waiting.recv(1000).startswith(b"HTTP/1.1 503 ")


def test_wait_ends_when_its_client_leaves(collector: MockCollector) -> None:
    begin_wait(collector).close()

    until(collector, lambda: not collector.journal._watched._waiters)


def test_wait_for_a_span_gives_the_span_or_the_nearest_miss(collector: MockCollector) -> None:
    waiting = InThread(
        lambda: ask(collector, "POST", "/wait", {"span": {"name": "pay"}, "timeout": 10})
    )
    send(collector, request_json(span_json(1, name="pay")))
    status, found = waiting.result()
    assert (status, found["span"]["name"]) == (200, "pay")

    status, found = ask(collector, "POST", "/wait", {"span": {"name": "buy"}, "timeout": 0})
    assert status == 409
    assert "the nearest of 1" in found["error"]


def test_release_does_not_end_a_wait(collector: MockCollector) -> None:
    with begin_wait(collector) as waiting:
        ask(collector, "POST", "/release")
        ask(collector, "GET", "/counts")
        send(collector, request_json())

        assert waiting.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"attributes": {"cents": 250}}, 1),
        ({"attributes": {"cents": 250.0}}, 0),
        ({"attributes": {"cents": "250"}}, 0),
        ({"attributes": {"cents": {"$any": True}}}, 1),
        ({"attributes": {"cents": {"$absent": True}}}, 1),
        ({"name": {"$pattern": "^p"}}, 1),
        ({"resource": {"service.name": "shop"}}, 2),
        ({"trace_id": "0AF7651916CD43DD8448EB211C80319C", "kind": 1}, 2),
    ],
)
def test_spans_are_asked_for_with_types_patterns_and_absence(
    collector: MockCollector, wanted: dict[str, Any], count: int
) -> None:
    cents = attribute_json("cents", intValue="250")
    send(collector, request_json(span_json(1, name="pay", attributes=[cents]), span_json(2)))

    assert len(ask(collector, "POST", "/spans", wanted)[1]["spans"]) == count


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("attribute=cents", 1),
        ("attribute=cents%3D250", 1),
        ('attribute=cents%3D"250"', 0),
        ("resource=service.name%3Dshop&kind=1", 2),
        ("name=1", 0),
    ],
)
def test_query_reads_values_as_json_or_as_text(
    collector: MockCollector, query: str, count: int
) -> None:
    cents = attribute_json("cents", intValue="250")
    send(collector, request_json(span_json(1, attributes=[cents]), span_json(2)))

    assert len(ask(collector, "GET", f"/spans?{query}")[1]["spans"]) == count


def test_span_is_shown_in_plain_json_whatever_it_holds(collector: MockCollector) -> None:
    nested = {"values": [{"doubleValue": "NaN"}, {"bytesValue": "AAE="}]}
    span = span_json(1, attributes=[attribute_json("a", arrayValue=nested)])
    send(collector, request_json(span))

    shown = ask(collector, "GET", "/spans")[1]["spans"][0]
    assert shown["attributes"] == {"a": ["NaN", {"$bytes": "AAE="}]}
    assert shown["start_time_unix_nano"] == "1767225600000000000"
    assert (shown["resource"], shown["is_accepted"]) == ({"service.name": "shop"}, True)


def test_refused_spans_are_shown_when_asked_for(collector: MockCollector) -> None:
    collector.script.replace("503")
    send(collector, request_json())

    assert ask(collector, "GET", "/spans")[1]["spans"] == []
    assert len(ask(collector, "GET", "/spans?include_refused=true")[1]["spans"]) == 1
    assert len(ask(collector, "POST", "/spans", {"include_refused": True})[1]["spans"]) == 1


def test_requests_are_chosen_by_header_value_status_and_encoding(collector: MockCollector) -> None:
    send(collector, request_json(), headers=JSON | {"X-Key": "a=b"})
    send(collector, request_proto())
    send(collector, b"{", headers=JSON)

    for query, numbers in {
        "header=x-key%3Da%3Db": [1],
        "header=x-key%3Da": [],
        "status=400": [3],
        "encoding=protobuf": [2],
        "": [1, 2, 3],
    }.items():
        found = ask(collector, "GET", f"/requests?{query}")[1]["requests"]
        assert [each["number"] for each in found] == numbers, query


def test_script_is_set_by_objects_and_appended_to(collector: MockCollector) -> None:
    answers = [{"status": 429, "retry_after": 2, "times": 2}, {"ending": "cut"}]
    status, shown = ask(collector, "PUT", "/script", {"answers": answers, "default": "401"})
    assert (status, [each["answer"] for each in shown["left"]]) == (200, ["429", "cut"])
    assert shown["default"] == "401"
    shown = ask(collector, "POST", "/script", {"script": "ok"})[1]
    assert [each["answer"] for each in shown["left"]] == ["429", "cut", "200"]

    reply = send(collector, request_json())
    assert (reply.status, reply.headers["retry-after"]) == (429, "2")
    ask(collector, "DELETE", "/script")
    assert send(collector, request_json()).status == 401


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/wait", {"spans": 1, "requests": 1}, "wait for one of"),
        ("/wait", {"spans": 1, "timeout": 601}, "between 0 and 600"),
        ("/wait", {"spans": 1, "timeout": True}, "number of seconds"),
        ("/wait", {"spans": 1, "distinct": 1}, "distinct is true or false"),
        ("/wait", {"spans": -1}, "whole number"),
        ("/assert", {"name": {"$pattern": "("}}, "the pattern"),
        ("/assert", {"name": {"$other": 1}}, "$absent"),
        ("/assert", {"attributes": 3}, "object of keys"),
        ("/script", {"answers": [{"status": "503"}]}, "status is a whole number"),
        ("/script", {"answers": [{"status": 99}]}, "between 200 and 599"),
        ("/script", {"answers": [{"nonsense": 1}]}, "'nonsense' is not one of"),
        ("/script", {"answers": [{"ending": "never"}]}, "ending is one of"),
        ("/script", {"answers": [{"headers": {"a": 1}}]}, "object of texts"),
        ("/script", {"script": "ok", "answers": []}, "a script is"),
        ("/script", {"default": "ok,503"}, "not one answer"),
        ("/spans", b"[]", "not a JSON object"),
        ("/spans", b"[" * 100_000, "not JSON"),
        ("/spans", b"{", "not JSON"),
    ],
)
def test_mistake_is_a_400_that_changes_nothing(
    collector: MockCollector, path: str, body: Any, words: str
) -> None:
    collector.script.replace("503*2")
    status, found = ask(collector, "POST", path, body)

    assert (status, words in found["error"]) == (400, True), found
    assert [str(answer) for answer in collector.script.left] == ["503"]
    assert str(collector.script.default) == "200"


def test_body_that_any_web_page_could_send_is_refused(collector: MockCollector) -> None:
    status, _ = ask(collector, "POST", "/script", {"script": "503"}, "text/plain")

    assert status == 415
    assert collector.script.left == ()


def test_body_over_a_megabyte_is_refused(collector: MockCollector) -> None:
    assert ask(collector, "POST", "/spans", b" " * (2**20 + 1))[0] == 413


def test_counts_mode_tells_counts_and_says_that_it_has_no_spans() -> None:
    with MockCollector(control_port=0, keep="counts") as collector:
        send(collector, request_proto(3))
        status, counts = ask(collector, "POST", "/wait", {"spans": 3})
        assert (status, counts["spans_accepted"], counts["answers"]) == (200, 3, {"200": 1})
        for path in ("/spans", "/assert"):
            status, found = ask(collector, "POST", path, {})
            assert (status, found["error"]) == (
                400,
                "this collector keeps counts only: ask /counts",
            )


def test_control_tells_the_profile_and_no_token() -> None:
    with MockCollector(control_port=0, profile="axiom", token="canary") as collector:
        _, told = ask(collector, "GET", "/")

    assert (told["profile"], told["header_names"]) == (
        "axiom",
        ["Authorization", "X-Axiom-Dataset"],
    )
    assert "canary" not in json.dumps(told)


def test_start_leaves_nothing_open_when_the_control_port_is_taken() -> None:
    with MockCollector() as other:
        collector = MockCollector(control_port=other.port)
        with pytest.raises(OSError, match="in use"):
            collector.start()
        assert not collector.is_running
