"""Scripted faults of a connection, as a sender sees them on the socket."""

import gzip
import json
import socket
import time
import zlib
from contextlib import suppress

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from mockcollector import MockCollector
from mockcollector.script import Script, chaos, cut, ok, refuse, reset
from mockcollector.script_text import parse_script
from mockcollector.script_values import Answer, Coding, Ending, ScriptError
from tests.unit.mockcollector.exchange import (
    JSON,
    InThread,
    request_json,
    request_proto,
    send,
    span_json,
)

BODY = json.dumps(request_json()).encode()


def head(body: bytes = BODY) -> bytes:
    lines = ["POST /v1/traces HTTP/1.1", "Host: mock", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()


def connect(collector: MockCollector) -> socket.socket:
    return socket.create_connection((collector.host, collector.port), timeout=10)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("reset", reset()),
        ("endless", Answer(ending=Ending.ENDLESS)),
        ("endless=100", Answer(ending=Ending.ENDLESS, bytes_per_second=100)),
        ("dribble=0.5", ok(dribble_seconds=0.5)),
        ("503:dribble=2", refuse(503, dribble_seconds=2.0)),
        ("idle-close=0.5", ok(idle_close_seconds=0.5)),
        ("idle-close=next", ok(closes_at_next=True)),
        ("503:idle-close=next*2", refuse(503, closes_at_next=True, times=2)),
        ("slow-read=10KiB", ok(read_bytes_per_second=10240)),
        ("ok:size=6MiB", ok(size_bytes=6 * 1024 * 1024)),
        ("coding=gzip", ok(coding=Coding.GZIP)),
        ("503:for=10", refuse(503, for_seconds=10.0, times=None)),
        ("ok:type=", ok(content_type="")),
        ("""503:body='{"a":1,"b":[2]}'""", refuse(503, body='{"a":1,"b":[2]}')),
        (r'503:body="say \"no\""', refuse(503, body='say "no"')),
        ("302:header=Location='http://h/p'", refuse(302, headers={"Location": "http://h/p"})),
        ("503:can't", refuse(503, message="can't")),
        ("503:'x=1, y: 2'", refuse(503, message="x=1, y: 2")),
    ],
)
def test_short_form_of_a_fault(text: str, answer: Answer) -> None:
    assert parse_script(text) == [answer]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("429:Retry-After=3", "did you mean 'retry-after'?"),
        ("429:retry_after=3", "did you mean 'retry-after'?"),
        ("302:header=Location=http://h/p", "needs quotes: header='…:…'"),
        ('503:body={"a":1}', "needs quotes: body='…:…'"),
        ("503:body='x", "the quote ' is not closed"),
        ("503:body='x'y", "nothing may follow the closing quote"),
        ("503:x=1", "a message with = needs quotes"),
        ("503:header=A B=1", "'A B' cannot be the name of a header"),
        ("503:for=2*3", "both a number of times and for=SECONDS"),
        ("503:for=0", "it must be above 0"),
        ("coding=br", "a coding is one of: gzip"),
        ("slow-read=0", "read_bytes_per_second is 0"),
        ("ok:size=1parsec", "is not a number of bytes"),
        ("chaos=2", "is not between 0 and 1"),
        ("chaos=0.5:faults=slow-read=5", "no slow-read"),
        ("chaos=0.5:sead=1", "did you mean 'seed'?"),
    ],
)
def test_fault_that_cannot_be_is_refused_with_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script(text)
    assert words in str(caught.value)


def test_reset_takes_the_request_and_resets_the_connection() -> None:
    with MockCollector(script="reset") as collector:
        with connect(collector) as sender:
            sender.sendall(head() + BODY)
            with pytest.raises(ConnectionResetError):
                sender.recv(1)
        (request,) = collector.journal.requests()
        assert (request.answer, request.status) == ("reset", None)
        assert len(collector.journal.spans()) == 1
        assert send(collector, request_json(span_json(2))).status == 200


def test_idle_connection_is_closed_when_nothing_came_for_so_long() -> None:
    with MockCollector(script="idle-close=0.05") as collector, connect(collector) as sender:
        sender.sendall(head() + BODY)
        answer = sender.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" not in answer.lower()
        assert sender.recv(1) == b""


def test_stale_connection_ends_when_the_next_request_begins() -> None:
    with MockCollector(script="idle-close=next") as collector:
        with connect(collector) as sender:
            sender.sendall(head() + BODY)
            assert sender.recv(10_000).startswith(b"HTTP/1.1 200 ")
            sender.sendall(head() + BODY)
            assert sender.recv(1) == b""
        assert collector.journal.counts.requests == 1


def test_dribble_spreads_head_and_body_over_its_time() -> None:
    with MockCollector(script="dribble=0.2") as collector, connect(collector) as sender:
        sender.sendall(head() + BODY)
        began = time.monotonic()
        pieces: list[bytes] = []
        while not b"".join(pieces).endswith(b"{}"):
            pieces.append(sender.recv(10_000))
        assert time.monotonic() - began >= 0.15
        assert len(pieces) > 5
        assert len(pieces[0]) < len(b"HTTP/1.1 200 OK\r\n")
        sender.sendall(head() + BODY)
        assert sender.recv(10_000).startswith(b"HTTP/1.1 200 ")


def test_dribble_is_ended_by_release() -> None:
    with MockCollector(script="dribble=600*") as collector:
        waiting = InThread(lambda: send(collector, request_json()))
        collector.journal.wait_for_requests(1, settled=True)
        while waiting._thread.is_alive():
            collector.release()
        assert waiting.result().json() == {}


def test_endless_answer_goes_on_until_the_sender_leaves() -> None:
    with MockCollector(script="endless=10MiB") as collector:
        with connect(collector) as sender:
            sender.sendall(head() + BODY)
            total = 0
            while total < 2_000_000:
                total += len(sender.recv(65536))
        (request,) = collector.journal.requests()
        assert (request.answer, request.status) == ("endless", None)
        assert send(collector, request_json(span_json(2))).status == 200


def test_endless_answer_is_cut_off_by_release() -> None:
    with MockCollector(script="endless=10") as collector, connect(collector) as sender:
        sender.sendall(head() + BODY)
        first = sender.recv(65536)
        assert b"transfer-encoding: chunked" in first
        collector.release()
        data = b""
        try:
            while piece := sender.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        assert b"\r\n0\r\n\r\n" not in data


@pytest.mark.parametrize("size", [100, 1000, 5_000_000])
def test_oversized_answer_is_still_the_right_answer(size: int) -> None:
    with MockCollector(script=f"ok:size={size}*2") as collector:
        reply = send(collector, request_json())
        assert (len(reply.body), reply.json()) == (size, {})
        reply = send(collector, request_proto())
        assert abs(len(reply.body) - size) < 5
        assert not ExportTraceServiceResponse.FromString(reply.body).HasField("partial_success")


def test_answer_is_packed_whatever_the_sender_accepts() -> None:
    with MockCollector(script="coding=gzip,503:coding=deflate,coding=damaged-gzip") as collector:
        replies = [send(collector, request_json(span_json(n))) for n in (1, 2, 3)]
    assert [r.headers["content-encoding"] for r in replies] == ["gzip", "deflate", "gzip"]
    assert gzip.decompress(replies[0].body) == b"{}"
    assert json.loads(zlib.decompress(replies[1].body))["code"] == 14
    with pytest.raises((zlib.error, EOFError, OSError)):
        gzip.decompress(replies[2].body)


def test_answer_can_go_without_a_content_type() -> None:
    with MockCollector(script="ok:type=") as collector:
        assert "content-type" not in send(collector, request_json()).headers


def test_slow_read_takes_its_time_and_is_not_used_up_by_a_wrong_request() -> None:
    with MockCollector(script=f"503:slow-read={len(BODY) * 5}") as collector:
        assert send(collector, b"{", headers=JSON).status == 400
        assert [str(step) for step in collector.script.left] == ["503"]
        began = time.monotonic()
        assert send(collector, BODY, headers=JSON).status == 503
        assert time.monotonic() - began >= 0.18
        assert collector.script.left == ()
        request = collector.journal.requests()[-1]
        assert request.read_ns - request.began_ns >= 180_000_000


def test_slow_reader_lets_a_large_body_wait_at_its_sender() -> None:
    body = json.dumps(request_json(span_json(name="x" * 30_000_000))).encode()
    with MockCollector(script="slow-read=100MiB") as collector:
        with connect(collector) as sender:
            sender.sendall(head(body))
            sender.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while sent < len(body):
                    sent += sender.send(body[sent : sent + 65536])
            assert sent < len(body)


def test_chaos_is_the_same_for_the_same_seed() -> None:
    def run(seed: int) -> list[str]:
        script = Script([chaos(0.4, seed=seed, faults=[refuse(503), cut()])])
        return [str(script.take()) for _ in range(300)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    faults = [word for word in run(7) if word != "200"]
    assert set(faults) == {"503", "cut"}
    assert 80 < len(faults) < 160


def test_chaos_is_written_in_a_script_and_ends_after_its_times() -> None:
    (step,) = parse_script("chaos=1:seed=3:faults=503+reset*20")
    script = Script([step])
    assert {str(script.take()) for _ in range(20)} == {"503", "reset"}
    assert str(script.take()) == "200"


def test_schedule_gives_each_answer_for_its_time() -> None:
    times = iter((100, 104.9, 105, 114, 115, 116, 117))
    script = Script("ok:for=5,503:for=10,429*2", clock=lambda: next(times))
    seen = [str(script.take()) for _ in range(7)]
    assert seen == ["200", "200", "503", "503", "429", "429", "200"]


def test_schedule_skips_what_was_over_before_anybody_asked() -> None:
    times = iter((0, 2.5))
    script = Script("503:for=1,429:for=1,ok", clock=lambda: next(times))
    assert [str(script.take()) for _ in range(2)] == ["503", "200"]
