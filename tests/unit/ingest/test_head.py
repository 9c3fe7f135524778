"""Who sent a request and whether they may, from headers and peer alone."""

import hashlib
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import IngestConfig
from relay.config.patterns import network
from relay.ingest.browsers import Hosts, Origins, grants
from relay.ingest.forwarded import Proxies
from relay.ingest.head import (
    Gate,
    Headers,
    Tokens,
    coding_of,
    encoding_of,
    joined,
    refuse_loop,
    sender_of,
    too_long,
    wrong_type,
)
from relay.model.errors import Refusal
from relay.model.records import Encoding

HEADERS = st.dictionaries(st.binary(max_size=20), st.binary(max_size=60), max_size=8)


def scope(client: tuple[str, int] | None, server: Any = ("127.0.0.1", 4318)) -> dict[str, Any]:
    return {"client": client, "server": server}


@pytest.mark.parametrize(
    ("client", "server", "address", "is_local"),
    [
        (("127.0.0.1", 5), ("127.0.0.1", 4318), "127.0.0.1", True),
        (("127.8.9.1", 5), ("127.0.0.1", 4318), "127.8.9.1", True),
        (("::1", 5), ("::1", 4318), "::1", True),
        (("::ffff:127.0.0.1", 5), ("::", 4318), "::ffff:127.0.0.1", True),
        (("10.0.0.1", 5), ("10.0.0.2", 4318), "10.0.0.1", False),
        (("fe80::1%eth0", 5), ("::", 4318), "fe80::1%eth0", False),
        (("testclient", 5), ("x", 1), "testclient", False),
        (None, ("/run/relay.sock", None), "unix", True),
        (None, ("127.0.0.1", 4318), "unknown", False),
        (None, None, "unknown", False),
    ],
)
def test_sender_is_local_when_its_peer_is_this_host(
    client: tuple[str, int] | None, server: Any, address: str, is_local: bool
) -> None:
    sender = sender_of(scope(client, server), {}, is_connection_test=False)

    assert (sender.address, sender.is_local) == (address, is_local)


@pytest.mark.parametrize(
    "header",
    [b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"via", b"x-real-ip", b"cf-ray"],
)
@pytest.mark.parametrize("client", [("127.0.0.1", 5), None])
def test_sender_is_not_local_when_a_header_shows_a_proxy(
    header: bytes, client: tuple[str, int] | None
) -> None:
    request = scope(client, ("/run/relay.sock", None))

    assert not sender_of(request, {header: b""}, is_connection_test=False).is_local


def test_tokens_are_compared_whole_and_may_hold_any_text() -> None:
    tokens = Tokens(["ünï code", "b"])

    tokens.check({b"authorization": "Bearer ünï code".encode()})
    tokens.check({b"authorization": b"BEARER   b"})
    for wrong in (b"Bearer ", b"Bearer bb", b"Bearer B", b"Bearer b, Bearer b"):
        with pytest.raises(Refusal) as refusal:
            tokens.check({b"authorization": wrong})
        assert refusal.value.status in (401, 403)
        assert "bb" not in refusal.value.message


def test_token_behind_an_encoded_blank_is_refused_with_what_to_do() -> None:
    with pytest.raises(Refusal, match="write a blank there instead of %20") as refusal:
        Tokens(["t"]).check({b"authorization": b"Bearer%20t"})
    assert refusal.value.status == 401


@given(headers=HEADERS)
def test_no_header_is_a_token_by_chance(headers: Headers) -> None:
    with pytest.raises(Refusal):
        Tokens(["the only one"]).check(headers)


@given(value=st.binary(max_size=9000))
def test_loops_are_looked_for_in_any_bytes(value: bytes) -> None:
    has_too_many = value.count(b",") > 31 or len(value) > 4096
    expected = pytest.raises(Refusal, match="more than 32") if has_too_many else nullcontext()

    with expected:
        refuse_loop({b"otlp-relay-hops": value}, b"an id that is not there")


@given(before=st.integers(0, 31))
def test_loops_are_found_at_each_of_32_places(before: int) -> None:
    hops = b" , ".join([b"other"] * before + [b"me"])

    with pytest.raises(Refusal):
        refuse_loop({b"otlp-relay-hops": hops}, b"me")


@given(raw=st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.binary(max_size=3))))
def test_headers_that_stand_twice_are_joined_in_order(raw: list[tuple[bytes, bytes]]) -> None:
    headers = joined(raw)

    for name in {name for name, _ in raw}:
        assert headers[name] == b", ".join(value for each, value in raw if each == name)


@given(headers=HEADERS)
def test_headers_of_the_body_are_judged_without_a_failure(headers: Headers) -> None:
    encoding_of(headers)
    with suppress(Refusal):
        coding_of({b"content-encoding": b"".join(headers.values())})


def test_origins_answer_nothing_when_there_are_none() -> None:
    headers = {b"origin": b"https://a.b", b"access-control-request-method": b"POST"}

    assert Origins([]).headers(headers) == ()
    assert Origins([]).preflight("OPTIONS", headers) is None
    assert Origins(["https://a.b"]).preflight("OPTIONS", {b"origin": b"https://a.b"}) is None
    assert Origins(["https://a.b/"]).headers(headers)[0][1] == b"https://a.b"


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://app.example", True),
        ("https://a.pages.example", True),
        ("https://a.b.pages.example", True),
        ("https://pages.example", False),
        ("http://a.pages.example", False),
        ("https://a.pages.example:8443", False),
        ("https://evil-pages.example", False),
        ("https://pages.example.evil", False),
        ("https://app.example.evil", False),
        ("https://appxexample", False),
        ("null", False),
    ],
)
def test_origins_are_matched_whole_by_name_or_pattern(origin: str, is_allowed: bool) -> None:
    origins = Origins(["https://app.example", "https://*.pages.example"])
    found = dict(origins.headers({b"origin": origin.encode()}))

    assert found[b"vary"] == b"Origin"
    assert (found.get(b"access-control-allow-origin") == origin.encode()) is is_allowed
    assert (found.get(b"access-control-allow-credentials") == b"true") is is_allowed


def test_origins_of_all_are_repeated_so_that_credentials_may_come() -> None:
    found = dict(Origins(["*"]).headers({b"origin": b"https://a.b"}))

    assert found == {
        b"access-control-allow-origin": b"https://a.b",
        b"access-control-allow-credentials": b"true",
        b"vary": b"Origin",
    }


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost:4318", True),
        ("LOCALHOST", True),
        ("127.0.0.1:4318", True),
        ("[::1]:4318", True),
        ("10.0.0.5", True),
        ("127.1:4318", True),
        ("[fe80::1%25eth0]:4318", True),
        ("localhost.localdomain:4318", True),
        ("relay:4318", True),
        ("host.docker.internal:4318", True),
        ("host.containers.internal", True),
        ("app.localhost:4318", True),
        ("app.example:443", True),
        ("a.pages.example", True),
        ("relay.corp.example:4318", True),
        ("deep.box.example", True),
        ("box.example", False),
        ("evil.example:4318", False),
        ("localhost.evil.example", False),
        ("localdomain.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example#localhost", False),
        ("evil.example:4318:4318", False),
        ("x" * 256, False),
        ("", False),
    ],
)
def test_names_that_no_page_can_have_and_those_that_are_set_are_ours(
    host: str, is_ours: bool
) -> None:
    origins = ["https://app.example", "https://*.pages.example"]
    hosts = Hosts(["relay.corp.example", "*.box.example"], origins)
    headers = {b"host": host.encode()}

    assert hosts.has_ours(scope(("127.0.0.1", 5)), headers) is is_ours
    assert hosts.has_ours(scope(("127.0.0.1", 5)), headers) is is_ours  # from memory
    assert hosts.has_ours(scope(None, ("/run/relay.sock", None)), headers)
    assert Hosts(["*"], []).has_ours(scope(("127.0.0.1", 5)), headers)


def test_few_names_are_remembered_and_none_that_no_host_has() -> None:
    """Each is a header's value, which may be as long as all of them together."""
    hosts = Hosts(["*"], [])
    hosts.has_ours(scope(("127.0.0.1", 5)), {b"host": b"x" * 256})
    assert hosts.known == {None}
    hosts.has_ours(scope(("127.0.0.1", 5)), {b"host": b"x" * 255})
    assert hosts.known == {None, b"x" * 255}
    for number in range(300):
        assert hosts.has_ours(scope(("127.0.0.1", 5)), {b"host": b"host-%d" % number})
    assert len(hosts.known) == 256


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (b"a" * 1024, b"a" * 1024),
        (b"a" * 1025, b"authorization, content-encoding, content-type"),
        (b"x-one, x_two", b"x-one, x_two"),
        (b"x\r\ny", b"authorization, content-encoding, content-type"),
        (None, b""),
    ],
)
def test_headers_that_a_page_asks_for_are_allowed_unless_they_are_none(
    asked: bytes | None, allowed: bytes
) -> None:
    headers = {b"origin": b"https://a.b", b"access-control-request-method": b"POST"}
    if asked is not None:
        headers[b"access-control-request-headers"] = asked
    found = dict(Origins(["*"]).preflight("OPTIONS", headers) or ())

    assert found[b"access-control-allow-headers"] == allowed
    assert found[b"access-control-allow-methods"] == b"POST, PUT"


@pytest.mark.parametrize(
    ("headers", "is_granted"),
    [
        (Origins(["https://a.b"]).headers({b"origin": b"https://a.b"}), True),
        (Origins(["https://a.b"]).headers({b"origin": b"https://c.d"}), False),
        ((), False),
    ],
)
def test_page_may_go_on_where_its_origin_is_named(headers: Any, *, is_granted: bool) -> None:
    assert grants(headers) is is_granted


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        ("10.0.0.1", {b"x-forwarded-for": b"203.0.113.9"}, "203.0.113.9"),
        ("10.0.0.1", {b"x-forwarded-for": b"1.2.3.4, 203.0.113.9, 10.0.0.7"}, "203.0.113.9"),
        ("10.0.0.1", {b"x-forwarded-for": b"10.0.0.8, 10.0.0.7"}, "10.0.0.8"),
        ("10.0.0.1", {b"x-forwarded-for": b"[2001:db8::1]:99"}, "2001:db8::1"),
        ("10.0.0.1", {b"x-forwarded-for": b"2001:db8::1"}, "2001:db8::1"),
        ("10.0.0.1", {b"x-forwarded-for": b"203.0.113.9:4711"}, "203.0.113.9"),
        ("10.0.0.1", {b"x-forwarded-for": b"\x1b[2J, 10.0.0.7"}, "10.0.0.7"),
        ("10.0.0.1", {b"x-forwarded-for": b"203.0.113.9, unknown, 10.0.0.7"}, "10.0.0.7"),
        ("10.0.0.1", {b"x-forwarded-for": b""}, "10.0.0.1"),
        ("10.0.0.1", {}, "10.0.0.1"),
        ("10.0.0.1", {b"forwarded": b'for=1.1.1.1, By=x;FOR="[2001:db8::7]:1";proto=https'},
         "2001:db8::7"),
        ("10.0.0.1", {b"forwarded": b"for=unknown"}, "10.0.0.1"),
        ("10.0.0.1", {b"forwarded": b"for=6.6.6.6", b"x-forwarded-for": b"203.0.113.9"},
         "203.0.113.9"),
        ("::1", {b"x-forwarded-for": b"203.0.113.9"}, "203.0.113.9"),
        ("unix", {b"x-forwarded-for": b"203.0.113.9"}, "unix"),
        ("192.0.2.1", {b"x-forwarded-for": b"203.0.113.9"}, "192.0.2.1"),
        ("unknown", {b"x-forwarded-for": b"203.0.113.9"}, "unknown"),
    ],
)  # fmt: skip
def test_address_is_what_trusted_proxies_tell_and_nobody_else(
    peer: str, headers: Headers, address: str
) -> None:
    proxies = Proxies([network("10.0.0.0/8"), network("::1")])

    assert proxies
    assert not Proxies([])
    assert proxies.sender(peer, headers) == address


@given(value=st.binary(max_size=9000))
def test_any_bytes_from_a_proxy_are_read_without_a_failure(value: bytes) -> None:
    proxies = Proxies([network("0.0.0.0/0"), network("::/0")])

    for name in (b"x-forwarded-for", b"forwarded"):
        assert proxies.sender("10.0.0.1", {name: value}).isprintable()


def test_token_is_told_by_its_digest_alone() -> None:
    found = Tokens(["b"]).check({b"authorization": b"Bearer b"})

    assert found == hashlib.sha256(b"b").hexdigest()


def test_refusals_of_a_body_say_why_in_both_kinds_of_status() -> None:
    long, other = too_long(17), wrong_type()

    assert (long.status, long.grpc_code, "17 bytes" in long.message) == (413, 8, True)
    assert (other.status, other.grpc_code) == (415, 3)


def gate(*tokens: str, **settings: Any) -> Gate:
    return Gate(IngestConfig(**settings), tokens=tokens, own_id=b"own")


def asking(client: str = "10.0.0.1", **headers: str) -> dict[str, Any]:
    """A request of JSON with these headers."""
    given = {"host": "localhost", "content_type": "application/json"} | headers
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    return scope((client, 5)) | {"headers": [(name, value) for name, value in raw if value]}


BEARER = {"authorization": "Bearer secret"}


@pytest.mark.parametrize(
    ("tokens", "headers", "status", "grpc_code"),
    [
        (["secret"], {}, 401, 16),
        (["secret"], {"authorization": "Bearer other"}, 403, 7),
        (["secret"], BEARER, 200, 0),
        ([], {"host": "evil.example"}, 421, 9),
        (["secret"], {**BEARER, "host": "evil.example"}, 200, 0),
        ([], {"otlp_relay_hops": "a,own"}, 508, 9),
        ([], {"otlp_relay_hops": ",".join("a" * 33)}, 508, 9),
        ([], {"otlp_relay_hops": "a" * 4097}, 508, 9),
        ([], {"otlp_relay_hops": "a" * 4096}, 200, 0),
        ([], {"otlp_relay_hops": ",".join("a" * 32)}, 200, 0),
        ([], {"content_type": "Application/JSON; charset=utf-8"}, 200, 0),
        ([], {"content_type": "text/plain"}, 415, 3),
        ([], {"content_type": "", "x_test_connection": "True "}, 200, 0),
        ([], {"content_type": "", "x_test_connection": "no"}, 415, 3),
        ([], {"content_encoding": "br"}, 415, 3),
        ([], {"content_encoding": "x-gzip"}, 200, 0),
    ],
)
def test_gate_admits_or_refuses_by_the_head_alone(
    tokens: list[str], headers: dict[str, str], status: int, grpc_code: int
) -> None:
    request = asking(**headers)
    if status == 200:
        head = gate(*tokens).admit(request)
        is_test = "x_test_connection" in headers
        assert head.sender.address == "10.0.0.1"
        assert head.sender.is_connection_test is is_test
        assert head.encoding is (None if is_test else Encoding.JSON)
        assert head.coding == ("gzip" if "content_encoding" in headers else "")
        assert bool(head.sender.token) is bool(tokens)
        return
    with pytest.raises(Refusal) as refusal:
        gate(*tokens).admit(request)
    assert (refusal.value.status, refusal.value.grpc_code) == (status, grpc_code)


@pytest.mark.parametrize(
    ("client", "host", "tokens_for", "is_admitted"),
    [
        ("127.0.0.1", "localhost", "remote", True),
        ("127.0.0.1", "evil.example", "remote", False),
        ("127.0.0.1", "localhost", "all", False),
        ("10.0.0.1", "localhost", "remote", False),
    ],
)
def test_gate_spares_programs_of_this_host_the_token_where_it_is_for_others(
    client: str, host: str, tokens_for: str, *, is_admitted: bool
) -> None:
    asked = gate("secret", tokens_for=tokens_for)
    with nullcontext() if is_admitted else pytest.raises(Refusal):
        asked.admit(asking(client, host=host))


def test_gate_tells_the_sender_by_its_trusted_proxies() -> None:
    proxies = (network("10.0.0.0/8"),)
    forwarded = asking(x_forwarded_for="192.0.2.7")

    assert gate(trusted_proxies=proxies).admit(forwarded).sender.address == "192.0.2.7"
    assert gate().admit(forwarded).sender.address == "10.0.0.1"


@pytest.mark.parametrize(
    ("name", "values", "whole"),
    [
        (b"host", (b"a", b"a"), b"a"),
        (b"host", (b"a", b"b"), b"a, b"),
        (b"content-encoding", (b"gzip", b"gzip"), b"gzip, gzip"),
        (b"accept", (b"a", b"b", b"a"), b"a, b, a"),
    ],
)
def test_header_that_stands_twice_is_joined_unless_it_says_the_same(
    name: bytes, values: tuple[bytes, ...], whole: bytes
) -> None:
    assert joined([(name, value) for value in values]) == {name: whole}
