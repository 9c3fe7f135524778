"""Whatever an upstream may answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.otlp.upstream_response import SuccessBody, read_success, read_words

JSON_TYPE, PROTOBUF_TYPE = "application/json", "application/x-protobuf"


def is_full_success(said: SuccessBody) -> bool:
    return (said.rejected, said.message, said.failure) == (0, "", "")


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
    assert is_full_success(read_success(body, JSON_TYPE))


@pytest.mark.parametrize("count", ["3", '"3"', "3.0"])
@pytest.mark.parametrize(
    "content_type", [JSON_TYPE, "application/json; charset=utf-8", "Application/JSON;x=y"]
)
def test_read_success_reads_numbers_and_strings(count: str, content_type: str) -> None:
    body = f'{{"partialSuccess":{{"rejectedSpans":{count},"errorMessage":"too old"}}}}'.encode()

    assert read_success(body, content_type) == SuccessBody(3, "too old")


def test_read_success_reads_a_warning_without_a_count() -> None:
    assert read_success(b'{"partialSuccess":{"errorMessage":"hm"}}', JSON_TYPE) == SuccessBody(
        0, "hm"
    )
    assert read_success(b"\x0a\x04\x12\x02hm", PROTOBUF_TYPE) == SuccessBody(0, "hm")


@pytest.mark.parametrize(
    "body", [b"", b"\x0a\x00", b"\x0a\x02\x08\x00", b"{}", b"\x0a\x09", b"\x12\x01a"]
)
def test_read_success_sees_full_success_in_every_protobuf_form(body: bytes) -> None:
    assert is_full_success(read_success(body, PROTOBUF_TYPE))


def test_read_success_reads_a_partial_success_in_protobuf() -> None:
    body = b"\x0a\x07\x08\x03\x12\x03bad"

    assert read_success(body, PROTOBUF_TYPE) == SuccessBody(3, "bad")
    assert read_success(body, "application/x-protobuf; v=1") == SuccessBody(3, "bad")
    negative = b"\x0a\x0b\x08" + b"\xff" * 9 + b"\x01"
    assert is_full_success(read_success(negative, PROTOBUF_TYPE))


def test_read_success_reads_a_count_beside_a_message_that_is_no_utf8() -> None:
    body = b"\x0a\x0b\x08\x03\x12\x07caf\xe9 no"

    assert read_success(body, PROTOBUF_TYPE) == SuccessBody(3, "caf\ufffd no")
    body = b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"caf\xe9"}}'
    assert read_success(body, JSON_TYPE) == SuccessBody(3, "caf\ufffd")


@pytest.mark.parametrize("content_type", ["", "text/html", "text/plain", "application/jsonp"])
def test_read_success_reads_what_is_typed_wrongly(content_type: str) -> None:
    assert read_success(b'{"partialSuccess":{"rejectedSpans":"3"}}', content_type).rejected == 3
    assert read_success(b"\x0a\x02\x08\x03", content_type).rejected == 3


def test_read_success_cuts_and_cleans_the_message() -> None:
    body = json.dumps({"partialSuccess": {"errorMessage": "a\n\x1b[31mb" + "c" * 5000}}).encode()
    found = read_success(body, JSON_TYPE)

    assert found.message.startswith("a [31mbccc")
    assert len(found.message) == 1000


@pytest.mark.parametrize(
    "said",
    [
        {"partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "old"}},
        {"partialSuccess": {"rejectedDataPoints": 3, "errorMessage": "old"}},
        {"partial_success": {"rejected_spans": "3", "error_message": "old"}},
        {"partial_success": {"rejected_log_records": 3, "error_message": "old"}},
        {"partial_success": {"rejected_data_points": 3.0, "error_message": "old"}},
        {"partialSuccess": None, "partial_success": {"rejectedSpans": 3, "errorMessage": "old"}},
        {"successes": [{"id": 1}], "errors": [{"message": "old"}, {"message": "old"}, "x"]},
    ],
)
def test_read_success_reads_the_count_of_every_signal_in_every_spelling(said: object) -> None:
    found = read_success(json.dumps(said).encode(), JSON_TYPE)

    assert (found.rejected, found.message[:3], found.failure) == (3, "old", "")
    assert found.is_otlp is ("successes" not in str(said))


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"<html><title>Sign in</title>", "a web page"),
        (b"\xef\xbb\xbf\r\n<!doctype html>", "a web page"),
        (b'<?xml version="1.0"?><Error/>', "a web page"),
        (b'{"error":"unknown API key"}', "an error"),
        (b' {"error":{"code":401}}', "an error"),
        (b'{"error":true,"partialSuccess":null}', "an error"),
        (b'{"error":"%b"}' % (b"x" * 500), "an error"),
        (b'{"errors":["a"]}', "an error"),
        (b'{"errors":["a"],"successes":[]}', "an error"),
        (b'{"success":false,"message":"quota"}', "an error"),
        (b'{"ok":false}', "an error"),
        (b'{"status":"error"}', "an error"),
        (b'{"status":401,"path":"/v1/traces"}', "status 401"),
        (b'{"status":400}', "status 400"),
        (b'{"status":599}', "status 599"),
        (b'{"code":16,"message":"no token"}', "code 16"),
        (b'{"code":"16"}', "code 16"),
        (b'{"code":-1}', "code -1"),
        (b'{"code":401}', "code 401"),
        (b'{"code":199}', "code 199"),
        (b'{"code":300}', "code 300"),
        (b'{"code":"PERMISSION_DENIED"}', "code PERMISSION_DENIED"),
        (b'{"code":"Unauthenticated"}', "code Unauthenticated"),
        (b'{"status":"UP"}', "the answer of a health check"),
        (b'{"status":"Server available","upSince":"2026"}', "the answer of a health check"),
        (b"\x08\x10\x12\x08no token", "a Status with code 16"),
        (b'{"message":"Unauthorized"}', "a refusal"),
        (b"404 page not found\n", "a refusal"),
        (b"Error: no such project", "a refusal"),
    ],
)
@pytest.mark.parametrize("content_type", [JSON_TYPE, PROTOBUF_TYPE, ""])
def test_read_success_sees_what_says_that_nothing_was_taken(
    body: bytes, failure: str, content_type: str
) -> None:
    assert read_success(body, content_type) == SuccessBody(is_otlp=False, failure=failure)


@pytest.mark.parametrize(
    ("body", "is_otlp"),
    [
        (b" \r\n", True),
        (b'{"partialSuccess":{}}', True),
        (b"\x0a\x00", True),
        (b'{"code":0}', False),
        (b'{"code":200,"status":[{"name":"default","successful":1,"failed":0}]}', False),
        (b'{"code":299}', False),
        (b'{"code":"OK"}', False),
        (b'{"error":null,"errors":[],"message":"ok"}', False),
        (b'{"error":"","success":true}', False),
        (b'{"status":"ok"}', False),
        (b'{"status":1}', False),
        (b'{"status":399}', False),
        (b'{"status":600}', False),
        (b'{"message":"cut', False),
        (b'{"message":"Trace received successfully."}', False),
        (b'{"ingested":4,"failed":0,"failures":[]}', False),
        (b'{"successes":[{"id":"1"}],"errors":[]}', False),
        (b'{"id":"error"}', False),
        (b"[]", False),
        (b"OK", False),
        (b"success", False),
        (b"\x12\x01a", False),
    ],
)
@pytest.mark.parametrize("content_type", [JSON_TYPE, PROTOBUF_TYPE, "text/plain", ""])
def test_read_success_leaves_a_success_what_says_nothing_to_the_contrary(
    body: bytes, content_type: str, *, is_otlp: bool
) -> None:
    found = read_success(body, content_type)

    assert is_full_success(found)
    assert found.is_otlp is is_otlp


@pytest.mark.parametrize(
    ("count", "rejected"),
    [("1", 1), (str(2**63 - 1), 2**63 - 1), (str(2**63), 0), ("0" * 19 + "3", 3), ("9" * 90, 0)],
)
def test_read_success_reads_any_count_of_64_bits(count: str, rejected: int) -> None:
    for sent in (f'"{count}"', count.lstrip("0")):
        body = f'{{"partialSuccess":{{"rejectedSpans":{sent},"errorMessage":"no"}}}}'
        assert read_success(body.encode(), JSON_TYPE) == SuccessBody(rejected, "no")


def test_read_success_reads_a_count_or_a_message_beside_what_it_does_not_know() -> None:
    for partial, expected in (
        ('{"errorMessage":"hm"}', SuccessBody(0, "hm", is_otlp=False)),
        ('{"rejectedSpans":2}', SuccessBody(2, is_otlp=False)),
    ):
        body = f'{{"partialSuccess":{partial},"took":3}}'.encode()
        assert read_success(body, JSON_TYPE) == expected
    assert read_success(b"\x0a\x06\x12\x04caf\xe9", PROTOBUF_TYPE) == SuccessBody(0, "caf\ufffd")


def test_read_success_takes_a_message_of_its_own_in_protobuf_for_no_refusal() -> None:
    assert read_success(b"\x12\x05error", PROTOBUF_TYPE) == SuccessBody(is_otlp=False)


def test_read_success_looks_for_a_web_page_behind_few_blanks_only() -> None:
    assert read_success(b" " * 511 + b"<p>", "").failure == "a web page"
    assert is_full_success(read_success(b" " * 512 + b"<p>", ""))


def test_read_success_reads_what_is_short_and_takes_what_is_long_as_it_stands() -> None:
    """A hundred bytes: enough for a code however it is escaped, and for what is empty."""
    code = "".join(f"\\u{ord(each):04x}" for each in "RESOURCE_EXHAUST") + "ED"
    short, long = b'{"code":"%b"}' % code.encode(), b'{"code":"%b "}' % code.encode()
    assert read_success(short, JSON_TYPE).failure == "code RESOURCE_EXHAUSTED"
    assert not read_success(long, JSON_TYPE).failure

    for blanks, failure in ((98, ""), (99, "an error")):
        body = b'{"errors":[%b]}' % (b" " * blanks)
        assert read_success(body, JSON_TYPE).failure == failure


@pytest.mark.parametrize("piece", [b'{"a":%b}', b'{"partialSuccess":{"a":%b}}', b'{"errors":%b}'])
@pytest.mark.timeout(5)
def test_read_success_is_done_soon_with_four_hostile_mebibytes(piece: bytes) -> None:
    for inner in (b"[" + b"{}," * 1_390_000 + b"{}]", b'"%b"' % (b"x\\u001b" * 600_000)):
        read_success(piece % inner, JSON_TYPE)


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
        (b"\x08\x41\x12\x02no", PROTOBUF_TYPE, "no"),
        (b"\x08\x03", PROTOBUF_TYPE, ""),
        (b"expected <string>, got 5", "text/plain", "expected <string>, got 5"),
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


def test_read_words_gives_the_first_twenty_of_many() -> None:
    body = json.dumps([f"word{number}" for number in range(25)]).encode()

    assert read_words(body, JSON_TYPE) == "; ".join(f"word{number}" for number in range(20))


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


@pytest.mark.parametrize(("levels", "is_found"), [(0, True), (3, True), (5, True), (6, False)])
@pytest.mark.parametrize("kind", ["lists", "objects"])
def test_words_are_found_five_levels_deep(kind: str, levels: int, is_found: bool) -> None:
    document: object = "the words"
    for _ in range(levels):
        document = [document] if kind == "lists" else {"error": document}
    body = json.dumps(document).encode()

    assert (read_words(body, JSON_TYPE) == "the words") is is_found
