"""Sessions: tests that run beside each other share one collector and do not see each other."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mockcollector import MockCollector
from mockcollector.sessions import SessionError
from mockcollector.signals import Signal
from tests.unit.mockcollector.exchange import send


def traces(name: str, span_id: str = "b7ad6b7169203331") -> dict[str, Any]:
    span = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": span_id, "name": name}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def ask(url: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, content, headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())


@pytest.fixture
def collector() -> Iterator[MockCollector]:
    with MockCollector(control_port=0) as running:
        yield running


def test_session_has_a_journal_and_a_script_of_its_own(collector: MockCollector) -> None:
    one, two = collector.session(script="503,ok"), collector.session()

    statuses = [
        send(collector, traces("one"), path=f"/sessions/{one.token}/v1/traces").status,
        send(collector, traces("two"), path=f"/sessions/{two.token}/v1/traces").status,
        send(collector, traces("one"), path=f"/sessions/{one.token}/v1/traces").status,
        send(collector, traces("nobody's")).status,
    ]

    assert statuses == [503, 200, 200, 200]
    assert [span.name for span in one.journal.spans()] == ["one"]
    assert [span.name for span in two.journal.spans()] == ["two"]
    assert [span.name for span in collector.journal.spans()] == ["nobody's"]
    assert one.endpoint_of("logs") == f"{collector.base_url}/sessions/{one.token}/v1/logs"
    assert one.env()["OTEL_EXPORTER_OTLP_ENDPOINT"] == one.base_url


def test_header_names_the_session_as_well(collector: MockCollector) -> None:
    session = collector.session(token="mine")
    headers = {"Content-Type": "application/json", **session.headers}

    assert session.headers == {"x-mock-session": "mine"}
    assert send(collector, traces("pay"), headers=headers).status == 200
    assert len(session.journal.spans()) == 1
    assert collector.journal.requests() == []


@pytest.mark.parametrize("way", ["path", "header"])
def test_unknown_session_is_refused_and_not_taken_for_none(
    collector: MockCollector, way: str
) -> None:
    gone = collector.session(token="gone")
    gone.close()
    headers = {"Content-Type": "application/json"}
    path = "/v1/traces"
    if way == "path":
        path = "/sessions/gone/v1/traces"
    else:
        headers["X-Mock-Session"] = "gone"

    assert send(collector, traces("pay"), path=path, headers=headers).status == 404

    (request,) = collector.journal.requests()
    assert request.path == "/sessions/gone/v1/traces"
    assert collector.journal.spans() == []


def test_token_cannot_be_taken_twice_or_be_a_path(collector: MockCollector) -> None:
    with collector.session(token="mine"):
        with pytest.raises(SessionError, match="there is a session 'mine' already"):
            collector.session(token="mine")
    collector.session(token="mine")
    with pytest.raises(SessionError, match="a token is 1 to 100 letters"):
        collector.session(token="a/b")


def test_release_of_a_session_leaves_others_hanging(collector: MockCollector) -> None:
    one, two = collector.session(script="hang"), collector.session(script="hang")
    with ThreadPoolExecutor(2) as pool:
        answers = [
            pool.submit(send, collector, traces("x"), path=f"/sessions/{each.token}/v1/traces")
            for each in (one, two)
        ]
        for each in (one, two):
            each.journal.wait_for_requests(1)
        released = ask(f"{collector.control_url}/sessions/{one.token}/release", "POST")
        assert released == (200, {"released": True})
        assert answers[0].result(20).status == 200
        assert not answers[1].done()
        assert two.journal.requests()[0].answer == ""
        collector.stop()
        with pytest.raises((OSError, http.client.HTTPException)):
            answers[1].result(20)


def test_sessions_by_control_api_from_first_to_last(collector: MockCollector) -> None:
    control = collector.control_url
    status, session = ask(f"{control}/sessions", "POST", {"token": "t", "script": "503,ok"})
    assert status == 201
    assert session["control"] == "/sessions/t"
    assert session["header"] == {"X-Mock-Session": "t"}
    own = control + session["control"]
    assert ask(f"{control}/sessions") == (200, {"sessions": ["t"]})
    assert ask(own) == (200, session)

    for expected in (503, 200):
        assert ask(session["endpoints"]["traces"], "POST", traces("pay"))[0] == expected

    assert ask(f"{own}/spans?name=pay")[1]["total"] == 1
    assert ask(f"{own}/assert", "POST", {"name": "pay"})[0] == 200
    assert ask(f"{own}/wait", "POST", {"spans": 1})[0] == 200
    assert ask(f"{own}/counts")[1]["answers"] == {"503": 1, "200": 1}
    assert ask(f"{control}/counts")[1]["requests"] == 0
    assert ask(f"{own}/", "GET")[1]["session"] == "t"
    assert ask(f"{own}/required-headers", "PUT", {"x-key": "k"})[0] == 200
    assert ask(session["endpoints"]["traces"], "POST", traces("pay"))[0] == 401
    assert ask(collector.endpoint, "POST", traces("pay"))[0] == 200
    status, told = ask(f"{own}/stop", "POST")
    assert (status, told["error"][:26]) == (400, "a session cannot stop the ")
    assert ask(own, "DELETE") == (200, {"sessions": []})
    assert ask(f"{own}/counts")[0] == 404
    assert ask(own)[0] == 404


def test_wrong_orders_for_sessions_are_told(collector: MockCollector) -> None:
    sessions = f"{collector.control_url}/sessions"

    assert ask(sessions, "POST", {"token": 7}) == (400, {"error": "token is a text"})
    assert ask(sessions, "POST", {"token": "a b"})[0] == 400
    assert "did you mean" in ask(sessions, "POST", {"script": "hnag"})[1]["error"]
    assert ask(sessions, "POST", {"nonsense": 1})[0] == 400
    assert ask(sessions) == (200, {"sessions": []})


def test_export_is_a_line_of_otlp_json_a_request(collector: MockCollector) -> None:
    send(collector, traces("pay"))
    send(collector, {"resourceLogs": []}, path="/v1/logs")

    with urllib.request.urlopen(f"{collector.control_url}/export?signal=traces") as answer:  # noqa: S310
        lines = answer.read().decode().splitlines()

    assert [json.loads(line) for line in lines] == [traces("pay")]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert ask(f"{collector.control_url}/export?signal=x")[0] == 400


def test_session_outlives_a_restart(collector: MockCollector) -> None:
    session = collector.session(script="ok,hang")
    path = f"/sessions/{session.token}/v1/traces"
    assert send(collector, traces("before"), path=path).status == 200
    collector.restart()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, collector, traces("hangs"), path=path)
        session.journal.wait_for_requests(2)
        ask(f"{collector.control_url}/sessions/{session.token}/release", "POST")
        assert answer.result(20).status == 200

    assert [span.name for span in session.journal.spans()] == ["before", "hangs"]
    assert list(collector.session().app.rules) == list(Signal)
