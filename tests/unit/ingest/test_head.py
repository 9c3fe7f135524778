"""Who sent a request and whether they may, from headers and peer alone."""

from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.head import (
    Headers,
    Origins,
    Tokens,
    coding_of,
    encoding_of,
    joined,
    refuse_long,
    refuse_loop,
    sender_of,
)
from relay.model.errors import Refusal

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


def test_lengths_are_refused_above_the_limit_and_however_long() -> None:
    refuse_long({b"content-length": b"10"}, 10)
    refuse_long({}, 10)
    for length in (b"11", b"9" * 5000):
        with pytest.raises(Refusal) as refusal:
            refuse_long({b"content-length": length}, 10)
        assert refusal.value.status == 413


def test_origins_answer_nothing_when_there_are_none() -> None:
    headers = {b"origin": b"https://a.b", b"access-control-request-method": b"POST"}

    assert Origins([]).headers(headers) == ()
    assert Origins([]).preflight("OPTIONS", headers) is None
    assert Origins(["https://a.b"]).preflight("OPTIONS", {b"origin": b"https://a.b"}) is None
    assert Origins(["https://a.b/"]).headers(headers)[0][1] == b"https://a.b"
