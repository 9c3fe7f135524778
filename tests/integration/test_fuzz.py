"""One bad request cannot hurt the next: fuzzed bodies and headers against a real relay."""

import http.client
import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.fixtures import fixtures_of
from tests.support.load import request_of, span_ids
from tests.support.relay_process import Relay

FIXTURES = [fixture.body for fixture in fixtures_of("traces")]
TYPES = st.sampled_from(
    ["application/json", "application/x-protobuf", "application/json; charset=utf-8", "text/plain"]
)
CODINGS = st.sampled_from(["", "identity", "gzip", "deflate", "zstd", "br", "gzip, gzip"])
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=50)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A fixture with a few bytes changed, cut out or doubled."""
    body = bytearray(draw(st.sampled_from(FIXTURES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        what = draw(st.sampled_from(["change", "cut", "double"]))
        if what == "change":
            body[at : at + 1] = draw(st.binary(max_size=4))
        elif what == "cut":
            del body[at : at + draw(st.integers(1, 40))]
        else:
            body[at:at] = body[at : at + draw(st.integers(1, 40))]
    return bytes(body)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with Relay(tmp_path_factory.mktemp("fuzz")) as started:
        yield started


@given(
    body=st.one_of(mutated(), st.binary(max_size=300), st.just(b"")),
    media_type=TYPES,
    coding=CODINGS,
    more=st.dictionaries(NAMES, VALUES, max_size=4),
    method=st.sampled_from(["POST", "PUT", "GET", "DELETE"]),
)
@settings(
    max_examples=examples(400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_fuzzed_request_is_never_a_500_and_the_next_one_is_taken(
    relay: Relay, body: bytes, media_type: str, coding: str, more: dict[str, str], method: str
) -> None:
    more = {
        k: v for k, v in more.items() if k not in {"host", "connection", "content-length", "te"}
    }
    headers = {
        **more,
        "Content-Type": media_type,
        **({"Content-Encoding": coding} if coding else {}),
    }
    connection = http.client.HTTPConnection("127.0.0.1", relay.ingest_port, timeout=20)
    try:
        connection.request(method, "/v1/traces", body, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()

    assert answer.status in {200, 400, 405, 413, 415}, (answer.status, text)
    if answer.getheader("content-type") == "application/json":
        json.loads(text)
    assert b"Traceback" not in text
    assert relay.post(request_of(span_ids(1))) == (200, b"{}")
