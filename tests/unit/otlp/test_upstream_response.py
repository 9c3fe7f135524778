"""Whatever an upstream may answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.otlp.upstream_response import UpstreamPartial, read_success, read_words

JSON_TYPE, PROTOBUF_TYPE = "application/json", "application/x-protobuf"

# --- an upstream's success ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"partialSuccess":{}}',
        b'{"partialSuccess":null}',
        b'{"partialSuccess":{"rejectedSpans":0}}',
        b'{"partialSuccess":{"rejectedSpans":"0","errorMessage":""}}',
        b'{"partialSuccess":{"rejectedSpans":null,"errorMessage":null}}',
        b"null",
        b"[]",
        b"not json",
        b'{"queued":true}',
        b'{"partialSuccess":{"rejectedSpans":"many"}}',
        b'{"partialSuccess":{"rejectedSpans":-1}}',
        b'{"partialSuccess":{"rejectedSpans":true}}',
        b'{"partialSuccess":{"rejectedSpans":1.5}}',
        b'{"partialSuccess":{"rejectedSpans":"99999999999999999999"}}',
        b'{"partialSuccess":{"rejectedSpans":"%b"}}' % (b"9" * 5000),
        '{"partialSuccess":{"rejectedSpans":"٣"}}'.encode(),
        b"[" * 5000,
        b"\xff\xfe",
    ],
)
def test_read_success_sees_full_success_in_every_json_form(body: bytes) -> None:
    assert read_success(body, JSON_TYPE) is None


@pytest.mark.parametrize("count", ["3", '"3"', "3.0"])
@pytest.mark.parametrize(
    "content_type", [JSON_TYPE, "application/json; charset=utf-8", "Application/JSON;x=y"]
)
def test_read_success_reads_numbers_and_strings(count: str, content_type: str) -> None:
    body = f'{{"partialSuccess":{{"rejectedSpans":{count},"errorMessage":"too old"}}}}'.encode()

    assert read_success(body, content_type) == UpstreamPartial(3, "too old")


def test_read_success_reads_a_warning_without_a_count() -> None:
    assert read_success(b'{"partialSuccess":{"errorMessage":"hm"}}', JSON_TYPE) == UpstreamPartial(
        0, "hm"
    )
    assert read_success(b"\x0a\x04\x12\x02hm", PROTOBUF_TYPE) == UpstreamPartial(0, "hm")


@pytest.mark.parametrize(
    "body", [b"", b"\x0a\x00", b"\x0a\x02\x08\x00", b"{}", b"\x0a\x09", b"<ht"]
)
def test_read_success_sees_full_success_in_every_protobuf_form(body: bytes) -> None:
    assert read_success(body, PROTOBUF_TYPE) is None


def test_read_success_reads_a_partial_success_in_protobuf() -> None:
    body = b"\x0a\x07\x08\x03\x12\x03bad"

    assert read_success(body, PROTOBUF_TYPE) == UpstreamPartial(3, "bad")
    assert read_success(body, "application/x-protobuf; v=1") == UpstreamPartial(3, "bad")
    negative = b"\x0a\x0b\x08" + b"\xff" * 9 + b"\x01"
    assert read_success(negative, PROTOBUF_TYPE) is None


@pytest.mark.parametrize("content_type", ["", "text/html", "text/plain", "application/jsonp"])
def test_read_success_ignores_other_types(content_type: str) -> None:
    assert read_success(b'{"partialSuccess":{"rejectedSpans":"3"}}', content_type) is None


def test_read_success_cuts_and_cleans_the_message() -> None:
    body = json.dumps({"partialSuccess": {"errorMessage": "a\n\x1b[31mb" + "c" * 5000}}).encode()
    found = read_success(body, JSON_TYPE)

    assert found is not None
    assert found.message.startswith("a [31mbccc")
    assert len(found.message) == 1000


# --- an upstream's words ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b'{"code":16,"message":"no token"}', JSON_TYPE, "no token"),
        (b'{"error":"unknown API key"}', JSON_TYPE, "unknown API key"),
        (b'{"error":{"code":401,"message":"bad key"}}', JSON_TYPE, "bad key"),
        (b'{"detail":"Invalid token"}', "application/problem+json", "Invalid token"),
        (
            b'{"detail":[{"loc":["a"],"msg":"required"},{"msg":"short"}]}',
            JSON_TYPE,
            "required; short",
        ),
        (b'{"errors":["one",{"message":"two"},{"title":"three"}]}', JSON_TYPE, "one; two; three"),
        (b'{"errors":["one"],"message":""}', JSON_TYPE, "one"),
        (b'"just text"', JSON_TYPE, "just text"),
        (b'{"status":"denied"}', JSON_TYPE, '{"status":"denied"}'),
        (b'{"message":"unlabelled"}', "", "unlabelled"),
        (b'{"message":"cut', JSON_TYPE, '{"message":"cut'),
        (b"\x08\x03\x12\x0eunexpected EOF", PROTOBUF_TYPE, "unexpected EOF"),
        (b"\x08\x03", PROTOBUF_TYPE, ""),
        (b"upstream connect error", PROTOBUF_TYPE, "upstream connect error"),
        (b"404 page not found\n", "text/plain; charset=utf-8", "404 page not found"),
        (b"a\tb\r\n\x00c\x1b[1m\xe2\x80\xaed", "text/plain", "a b c[1md"),
        ("größer".encode(), "", "größer"),
        (b"\xef\xbb\xbfbom", "text/plain", "bom"),
        (
            (
                b"<html><head><title>502 Bad Gateway</title><style>p{}</style></head><body>\n"
                b"<center><h1>502 Bad Gateway</h1></center><hr>nginx&amp;co</body></html>"
            ),
            "text/html",
            "502 Bad Gateway nginx&co",
        ),
        (
            b"<!DOCTYPE html><title>Sign in</title><script>if (a<b) x()</script><p>Please\nlog in",
            "text/html; charset=utf-8",
            "Sign in: Please log in",
        ),
        (b"<h1>Nope</h1>", "", "Nope"),
        (b"", "text/html", ""),
        (b"", "", ""),
        (bytes(range(128, 256)), "application/octet-stream", ""),
    ],
)
def test_read_words_finds_what_the_upstream_says(
    body: bytes, content_type: str, words: str
) -> None:
    assert read_words(body, content_type) == words


@pytest.mark.parametrize("limit", [0, 1, 10, 1000])
def test_read_words_cuts_at_the_limit(limit: int) -> None:
    words = read_words(b"x" * 5000, "text/plain", limit)

    assert len(words) == limit
    assert words == "" or words.endswith("…")


def test_read_words_looks_at_the_first_64_kib_only() -> None:
    """So this is no JSON any more, and is shown as the text that it is."""
    body = b'{"message":"%b"}' % (b"x" * 70_000)

    assert read_words(body, JSON_TYPE).startswith('{"message":"xxx')


TYPES = st.sampled_from(
    [JSON_TYPE, PROTOBUF_TYPE, "text/html", "text/plain", "", ";", "application/json;"]
)
TEXT_OF_BODIES = st.text('<>/{}[]":,&;#xtile \\u\x1b', max_size=80).map(str.encode)


@given(st.binary(max_size=120) | TEXT_OF_BODIES, TYPES | st.text(max_size=20))
def test_reading_an_answer_never_raises(body: bytes, content_type: str) -> None:
    read_success(body, content_type)
    words = read_words(body, content_type, 50)

    assert len(words) <= 50
    assert words.isprintable()


@pytest.mark.parametrize("body", [b"<script" * 10_000, b"<" * 65536, b"&#" * 32768, b"[" * 65536])
@pytest.mark.parametrize("content_type", ["text/html", JSON_TYPE])
@pytest.mark.timeout(5)
def test_read_words_is_done_soon_with_hostile_bodies(body: bytes, content_type: str) -> None:
    assert len(read_words(body, content_type)) <= 1000
