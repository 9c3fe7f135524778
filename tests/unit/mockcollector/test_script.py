"""Scripted answers: the values, their short form, and what a sender sees of them on the socket."""

import http.client
import re
import socket
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockcollector import (
    Answer,
    MockCollector,
    Script,
    cut,
    cut_answer,
    hang,
    ok,
    partial,
    refuse,
)
from mockcollector.script_text import parse_script
from mockcollector.script_values import Ending, ScriptError
from tests.unit.mockcollector.exchange import JSON, InThread, request_json, send, span_json


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("", []),
        ("ok", [ok()]),
        ("503*3,ok", [refuse(503, times=3), ok()]),
        (" 503 * 3 , ok ", [refuse(503, times=3), ok()]),
        ("429:retry-after=2", [refuse(429, retry_after="2")]),
        ("429:retry-after=date+5", [refuse(429, retry_after=timedelta(seconds=5))]),
        ("partial=3:bad names", [partial(3, "bad names")]),
        ("delay=0.5", [ok(delay_seconds=0.5)]),
        ("503:delay=.5:gone", [refuse(503, delay_seconds=0.5, message="gone")]),
        ("hang,cut,cut-answer", [hang(), cut(), cut_answer()]),
        ("401*", [refuse(401, times=None)]),
        ("503*2:retry-after=1", [refuse(503, retry_after="1", times=2)]),
        ("503:retry-after=1*2", [refuse(503, retry_after="1", times=2)]),
        ("partial=1*2:words", [partial(1, "words", times=2)]),
        ("ok:type=text/html:body=<p>", [ok(content_type="text/html", body="<p>")]),
        ("302:header=Location=/x:header=A=b", [refuse(302, headers={"Location": "/x", "A": "b"})]),
    ],
)
def test_short_form_reads_as_answers(text: str, answers: list[Answer]) -> None:
    assert parse_script(text) == answers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("okay", "answer 1 of the script, 'okay': did you mean 'ok'?"),
        ("ok,hnag", "answer 2 of the script, 'hnag': did you mean 'hang'?"),
        ("600", "status 600 is not between 200 and 599"),
        ("100", "status 100 is not between 200 and 599"),
        ("ok,,ok", "answer 2"),
        ("503:retryafter=2", "did you mean 'retry-after'?"),
        ("503*0", "times is 0"),
        ("partial=x", "'x' is not a whole number"),
        ("delay=-1", "'-1' is not a number, such as 2 or 0.5"),
        ("401*,ok", "what follows is never given"),
        ("503:one:two", "what holds a colon needs quotes"),
        ("503:header=A", "header=NAME=VALUE"),
        ("partial=1:bad, names", "a text with a comma or colon needs quotes"),
    ],
)
def test_wrong_script_is_refused_with_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ScriptError, match=re.escape(words)):
        Script(text)


@given(st.text(alphabet="ok503*:,=-partilhngcudey.+ ", max_size=30))
def test_any_text_is_a_script_or_a_script_error(text: str) -> None:
    try:
        answers = parse_script(text)
    except ScriptError:
        return
    assert all(200 <= a.status <= 599 for a in answers if isinstance(a, Answer))


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 99},
        {"times": 0},
        {"delay_seconds": -1.0},
        {"rejected_spans": -1},
        {"status": 503, "rejected_spans": 1},
    ],
)
def test_impossible_answer_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ScriptError):
        Answer(**fields)


def test_script_gives_answers_in_order_then_the_default() -> None:
    script = Script([refuse(503, times=2), ok()], default=refuse(404, times=None))

    assert [script.take().status for _ in range(5)] == [503, 503, 200, 404, 404]


def test_script_can_be_changed_while_it_runs() -> None:
    script = Script("503*")
    assert script.take().status == 503

    script.replace("401,402")
    script.add(refuse(403))
    assert [str(answer) for answer in script.left] == ["401", "402", "403"]
    script.take()
    script.clear()
    assert script.take().status == 200


def test_sender_meets_503_three_times_then_ok() -> None:
    with MockCollector(script="503*3,ok") as collector:
        statuses = [send(collector, request_json()).status for _ in range(5)]

        assert statuses == [503, 503, 503, 200, 200]
        assert collector.journal.counts.spans_accepted == 2
        assert collector.journal.counts.spans_refused == 3


def test_refused_request_does_not_use_up_the_script() -> None:
    with MockCollector(script="503") as collector:
        assert send(collector, b"{", headers=JSON).status == 400
        assert send(collector, request_json(), method="PUT").status == 405
        assert send(collector, request_json()).status == 503


def test_retry_after_goes_out_as_seconds_or_date() -> None:
    point = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    script = [
        refuse(429, retry_after=2),
        refuse(429, retry_after=1.5),
        refuse(429, retry_after="rubbish"),
        refuse(503, retry_after=point),
        refuse(503, retry_after=timedelta(seconds=60)),
    ]
    with MockCollector(script=script) as collector:
        replies = [send(collector, request_json()) for _ in script]

    values = [reply.headers["retry-after"] for reply in replies]
    assert values[:4] == ["2", "1.5", "rubbish", "Sat, 02 Jan 2027 03:04:05 GMT"]
    ahead = parsedate_to_datetime(values[4]) - datetime.now(UTC)
    assert timedelta(seconds=50) < ahead <= timedelta(seconds=60)
    assert replies[0].json() == {"code": 8, "message": "scripted answer 429"}


def test_body_type_and_headers_go_out_as_scripted() -> None:
    script = [
        ok(body="<p>hello</p>", content_type="text/html"),
        refuse(403, body={"code": 403, "message": "Forbidden"}, headers={"X-Rate": "1"}),
        ok(body=b"\xff\x00"),
        refuse(301, headers={"Location": "/elsewhere"}),
    ]
    with MockCollector(script=script) as collector:
        html, forbidden, binary, moved = (send(collector, request_json()) for _ in script)

    assert (html.headers["content-type"], html.body) == ("text/html", b"<p>hello</p>")
    assert forbidden.json() == {"code": 403, "message": "Forbidden"}
    assert forbidden.headers["x-rate"] == "1"
    assert (binary.headers["content-type"], binary.body) == ("application/json", b"\xff\x00")
    assert moved.headers["location"] == "/elsewhere"


@pytest.mark.parametrize("status", [204, 304])
def test_answer_that_must_have_no_body_has_none(status: int) -> None:
    with MockCollector(script=f"{status},ok") as collector:
        connection = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
        for expected in (status, 200):
            connection.request("POST", "/v1/traces", b"{}", JSON)
            response = connection.getresponse()
            assert response.status == expected
            assert (response.getheader("content-length") is None) == (expected == status)
            response.read()
        connection.close()


def test_partial_success_refuses_the_last_spans() -> None:
    with MockCollector(script="partial=2:bad names") as collector:
        reply = send(collector, request_json(*(span_json(number) for number in (1, 2, 3))))

        assert reply.json() == {
            "partialSuccess": {"rejectedSpans": "2", "errorMessage": "bad names"}
        }
        assert [span.name for span in collector.journal.spans()] == ["span 1"]
        assert len(collector.journal.spans(include_refused=True)) == 3
        assert collector.journal.requests()[0].answer == "partial 2"


def test_partial_success_may_lie_about_more_than_was_sent() -> None:
    with MockCollector(script="partial=9") as collector:
        assert send(collector, request_json()).json()["partialSuccess"]["rejectedSpans"] == "9"
        assert collector.journal.counts.spans_refused == 1


def test_delayed_answer_comes_when_released() -> None:
    with MockCollector(script="delay=60") as collector:
        waiting = InThread(lambda: send(collector, request_json(), timeout=30))
        collector.journal.wait_for_requests(1)
        assert collector.journal.spans() == []
        collector.release()

        assert waiting.result().status == 200
        assert len(collector.journal.spans()) == 1


def test_short_delay_passes_by_itself() -> None:
    with MockCollector(script="503:delay=0.05") as collector:
        assert send(collector, request_json()).status == 503


def test_delayed_request_is_accepted_though_its_sender_gave_up() -> None:
    with MockCollector(script="delay=60") as collector:
        with pytest.raises(TimeoutError):
            send(collector, request_json(), timeout=0.2)
        collector.release()

        collector.journal.wait_for_spans(1)


def test_hanging_request_is_answered_when_released() -> None:
    with MockCollector(script="hang") as collector:
        waiting = InThread(lambda: send(collector, request_json()))
        collector.journal.wait_for_requests(1)
        assert collector.journal.requests()[0].answer == ""
        collector.release()

        assert waiting.result().status == 200
        assert len(collector.journal.spans()) == 1


def test_hanging_request_is_not_accepted_when_its_sender_leaves() -> None:
    with MockCollector(script="hang") as collector:
        with pytest.raises(TimeoutError):
            send(collector, request_json(), timeout=0.2)

        collector.journal.wait_for_requests(1, settled=True)
        assert collector.journal.requests()[0].answer == "hang: client left"
        assert collector.journal.counts.spans_refused == 1


def test_release_lets_only_those_go_that_hang_now() -> None:
    with MockCollector(script="hang*2") as collector:
        first = InThread(lambda: send(collector, request_json()))
        collector.journal.wait_for_requests(1)
        collector.release()
        assert first.result().status == 200
        second = InThread(lambda: send(collector, request_json()))
        collector.journal.wait_for_requests(2)

        assert collector.journal.counts.answers == {"200": 1}
        collector.release()
        assert second.result().status == 200


def test_cut_closes_the_connection_without_an_answer() -> None:
    with MockCollector(script="cut") as collector:
        with socket.create_connection((collector.host, collector.port), timeout=10) as connection:
            connection.sendall(
                b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2\r\n\r\n{}"
            )
            assert connection.recv(1000) == b""

        assert collector.journal.requests()[0].answer == "cut"
        assert send(collector, request_json()).status == 200


def test_cut_request_counts_as_accepted_and_its_repetition_as_duplicate() -> None:
    with MockCollector(script="cut") as collector:
        with pytest.raises(http.client.RemoteDisconnected):
            send(collector, request_json())
        send(collector, request_json())

        assert len(collector.journal.spans()) == 2
        assert collector.journal.duplicate_spans == 1


def test_cut_answer_is_shorter_than_it_says() -> None:
    with MockCollector(script="cut-answer") as collector:
        with pytest.raises(http.client.IncompleteRead):
            send(collector, request_json())

        request = collector.journal.requests()[0]
        assert (request.answer, request.status) == ("cut-answer", None)


def test_scripted_cut_of_a_refusal_accepts_nothing() -> None:
    with MockCollector(script=[Answer(status=503, ending=Ending.CUT)]) as collector:
        with pytest.raises(http.client.RemoteDisconnected):
            send(collector, request_json())

        assert collector.journal.counts.spans_accepted == 0
