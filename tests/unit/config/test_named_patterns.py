"""What each named pattern must find, and what it must not."""

import pytest

from relay.config.named_patterns import NAMED
from relay.process.steps.redactor import Redactor

# A body in which the words to be found stand between « and ».
FOUND = {
    "email": [
        "write to «ada@example.org», please",
        "«first.last+tag@sub.example.co.uk»",
        '{"to":"«a@b.io»"}',
        "«jürgen@exämple.de»",
        "mailto:«x_y%z@host-1.example.com»?subject=1",
    ],
    "credit-card": [
        "card «4111111111111111» ok",
        "«4111 1111 1111 1111»",
        "«5500-0000-0000-0004»",
        "amex «3782 822463 10005», «378282246310005»",
        "order 1234 «4111 1111 1111 1111»",
        "«4222222222222»",
        "«6304000000000000000»",
    ],
    "bearer": ["Authorization: «Bearer abc123.DEF-456_~»", "«bearer eyJabcdefghijklmnop.q»"],
    "basic-auth": [
        "Authorization: «Basic dXNlcjpwYXNz»",
        "«basic YWxhZGRpbjpvcGVuc2VzYW1l»",
        "clone «https://user:secret@»example.org/x",
        "«postgres://:secret@»db/x",
    ],
    "ipv4": ["from «192.0.2.1»:443", "«10.0.0.255»,«8.8.8.8»", "ip=«127.0.0.1»."],
    "ipv6": [
        "«2001:db8::1»",
        "[«::1»]:80",
        "via «fe80::1ff:fe23:4567:890a», ok",
        "«::ffff:192.0.2.1»",
    ],
    "jwt": [
        "token «eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_DEF»",
        "«eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.»",
    ],
    "aws-key": [
        "id «AKIAIOSFODNN7EXAMPLE»",
        "«aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»",
    ],
    "private-key": [
        "a «-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----» b",
        "«-----BEGIN PRIVATE KEY-----\nMIIE cut off",
        "«-----BEGIN OPENSSH PRIVATE KEY-----\\nb3Bl\\n-----END OPENSSH PRIVATE KEY-----»\\n",
    ],
    "phone": [
        "call «+49 30 901820» now",
        "«+14155550132»",
        "tel:«(415) 555-0132»",
        "«415-555-0132», «0049 30 9018 200»",
    ],
}
MISSED = {
    "email": ["@decorator", "a@b", "user@localhost", "1 @ 2.50", "git@ example.org"],
    "credit-card": [
        "4111111111111112",
        "1700000000000000000",
        "0000000000000000",
        "trace 4111111111111111a",
        "41111111111111111111111111",
        "2026-11-30 10:00:00.123456",
    ],
    "bearer": ["bearer of news", "the bearer certificate", "Bearer"],
    "basic-auth": ["basic training", "Basic auth", "https://example.org:8080/x@y", "basic income"],
    "ipv4": ["version 1.2.3.4.5", "256.1.1.1", "1.2.3", "0.1.2.3.4", "v1.2.3"],
    "ipv6": ["12:30:45", "std::string", "a::b", "00:1b:44:11:3a:b7", "Foo::Bar::baz", "::"],
    "jwt": ["eyJ.x.y", "eyJhbGciOiJIUzI1NiJ9", "keyJhbGciOi.a.b"],
    "aws-key": ["AKIA", "AKIAIOSFODNN7EXAMPLEXYZ", "xAKIAIOSFODNN7EXAMPLE"],
    "private-key": ["-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "PRIVATE KEY"],
    "phone": ["2026-11-30", "1700000000000", "+1", "1+23456789012", "id 4155550132", "10-20-30"],
}


def test_each_pattern_has_examples_of_both() -> None:
    assert FOUND.keys() == MISSED.keys() == NAMED.keys()


@pytest.mark.parametrize(
    ("name", "body"), [(name, body) for name, bodies in FOUND.items() for body in bodies]
)
def test_what_it_must_find_is_replaced_and_nothing_around_it(name: str, body: str) -> None:
    if "«" in body and "»" not in body:
        body += "»"
    parts = body.replace("»", "«").split("«")
    expected = "".join("[redacted]" if at % 2 else part for at, part in enumerate(parts))

    assert Redactor((), (name,), "mask", b"").text("".join(parts)) == expected


@pytest.mark.parametrize(
    ("name", "body"), [(name, body) for name, bodies in MISSED.items() for body in bodies]
)
def test_what_it_must_not_find_stays(name: str, body: str) -> None:
    assert Redactor((), (name,), "mask", b"").text(body) == body
