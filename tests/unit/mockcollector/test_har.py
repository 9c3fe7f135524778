"""What came is exported as an HTTP Archive, by the members that its specification demands."""

import base64
import gzip
import http.client
import json
from typing import Any

import pytest

from mockcollector import MockCollector
from mockcollector.har import to_har
from tests.unit.mockcollector.exchange import JSON, PROTOBUF, request_json, request_proto, send

# HAR 1.2: what is not optional, by object.
DEMANDED = {
    "entry": {"startedDateTime", "time", "request", "response", "cache", "timings"},
    "request": {
        *("method", "url", "httpVersion", "cookies", "headers", "queryString"),
        *("headersSize", "bodySize"),
    },
    "response": {
        *("status", "statusText", "httpVersion", "cookies", "headers", "content"),
        *("redirectURL", "headersSize", "bodySize"),
    },
    "timings": {"send", "wait", "receive"},
}


def ask(collector: MockCollector, path: str) -> tuple[int, Any]:
    assert collector.control_url is not None
    connection = http.client.HTTPConnection(collector.control_url.removeprefix("http://"))
    connection.request("GET", path)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, found


def test_all_requests_are_in_the_archive_with_bodies_and_answers() -> None:
    packed = gzip.compress(request_proto().SerializeToString())
    with MockCollector(
        required_headers={"x-team": "t0p"}, script="ok,429", control_port=0
    ) as collector:
        headers = {"X-Team": "t0p", "Authorization": "Bearer s3cret", "X-Plain": "shown"}
        body = request_json()
        send(collector, body, headers=JSON | headers, path="/v1/traces?a=1&b=")
        send(collector, packed, headers=PROTOBUF | headers | {"Content-Encoding": "gzip"})
        send(collector, b"{", headers=JSON)
        _, archive = ask(collector, "/export?format=har")

    log = archive["log"]
    assert (log["version"], log["creator"]["name"]) == ("1.2", "mockcollector")
    first, second, third = log["entries"]
    for entry in log["entries"]:
        assert entry.keys() >= DEMANDED["entry"]
        for part in ("request", "response", "timings"):
            assert entry[part].keys() >= DEMANDED[part]
        assert entry["time"] == sum(entry["timings"].values()) >= 0
    sent = {each["name"].lower(): each["value"] for each in first["request"]["headers"]}
    assert (sent["x-plain"], sent["x-team"], sent["authorization"]) == (
        "shown",
        "(secret)",
        "(secret)",
    )
    assert "s3cret" not in json.dumps(archive)
    assert "t0p" not in json.dumps(archive)
    assert first["request"]["url"].endswith("/v1/traces?a=1&b=")
    assert first["request"]["queryString"] == [
        {"name": "a", "value": "1"},
        {"name": "b", "value": ""},
    ]
    assert json.loads(first["request"]["postData"]["text"]) == body
    assert first["response"]["status"] == 200
    assert second["request"]["postData"]["_encoding"] == "base64"
    text = second["request"]["postData"]["text"]
    assert base64.b64decode(text) == request_proto().SerializeToString()
    assert second["request"]["bodySize"] == len(packed)
    assert (second["response"]["status"], second["response"]["statusText"]) == (
        429,
        "Too Many Requests",
    )
    assert (third["response"]["status"], third["response"]["_answer"]) == (401, "401")
    assert "x-team is missing" in third["response"]["_reason"]


def test_request_that_got_no_answer_has_status_0() -> None:
    with MockCollector(script="cut") as collector:
        with pytest.raises(OSError, match=r".*"):
            send(collector, request_json())
        (entry,) = to_har(collector.journal.requests())["log"]["entries"]
    assert (entry["response"]["status"], entry["response"]["_answer"]) == (0, "cut")


def test_other_format_is_refused() -> None:
    with MockCollector(control_port=0) as collector:
        assert ask(collector, "/export?format=xml")[0] == 400
