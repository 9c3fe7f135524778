"""Masking: a secret must not come back in any of the forms in which upstreams print it."""

import html
import json
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.otlp.words import clean, cut, decode_text, mask, strip_tags

TOKEN = 'xaat-1234/ab+cd=="é'
BASIC = "Basic " + b64encode(b"customer:pass:word1").decode()


@pytest.mark.parametrize(
    "form",
    [
        TOKEN,
        f"Bearer {TOKEN}",
        b64encode(TOKEN.encode()).decode(),
        b64encode(TOKEN.encode()).decode().rstrip("="),
        quote(TOKEN, safe=""),
        quote_plus(TOKEN),
        json.dumps(TOKEN)[1:-1],
        json.dumps(TOKEN, ensure_ascii=False)[1:-1],
        html.escape(TOKEN),
    ],
)
def test_mask_finds_a_bearer_token_in_every_form(form: str) -> None:
    assert mask(f"token [{form}] is wrong", [f"Bearer {TOKEN}"]) == "token [***] is wrong"


@pytest.mark.parametrize(
    "form", [BASIC, BASIC.split()[1], "customer:pass:word1", "customer", "pass:word1"]
)
def test_mask_finds_the_parts_of_basic_credentials(form: str) -> None:
    assert mask(f"no {form}!", [BASIC]) == "no ***!"


def test_mask_decodes_base64_that_is_url_safe_and_without_padding() -> None:
    plain = "user~~~:pässwort??"
    secret = b64encode(plain.encode()).decode().replace("+", "-").replace("/", "_").rstrip("=")

    assert mask(f"{plain} / pässwort??", [secret]) == "*** / ***"


def test_mask_finds_a_token_inside_a_url() -> None:
    words = "project SECRETTOKEN is unknown"

    assert mask(words, ["https://SECRETTOKEN@api.uptrace.dev"]) == "project *** is unknown"


@pytest.mark.parametrize(
    ("words", "masked"),
    [("experiment 1 of 12, 401", "experiment *** of 12, 401"), ("1", "***"), ("a1", "a1")],
)
def test_mask_replaces_a_short_secret_only_as_a_word(words: str, masked: str) -> None:
    assert mask(words, ["1"]) == masked


def test_mask_takes_the_longer_of_two_secrets_first() -> None:
    assert mask("abcdefgh-ijkl abcdefgh", ["abcdefgh", "abcdefgh-ijkl"]) == "*** ***"


def test_mask_covers_a_secret_that_was_cut_off() -> None:
    secret = "s3cr3t-token-of-some-length"
    words = clean("x" * 20 + secret, 20 + 15)

    assert words.endswith("…")
    assert mask(words, [secret]) == "x" * 20 + "***…"
    assert mask("it ends in s3cr3t-token", [secret]) == "it ends in s3cr3t-token"


@pytest.mark.parametrize("left", range(6, 12))
def test_mask_covers_whatever_is_left_of_a_secret_at_the_cut(left: int) -> None:
    assert mask(f"no {'0123456789ab'[:left]}…", ["0123456789ab"]) == "no ***…"


def test_mask_leaves_five_characters_that_a_secret_begins_with() -> None:
    assert mask("no 01234…", ["0123456789ab"]) == "no 01234…"


@pytest.mark.parametrize("secrets", [[], [""], [" "], ["other-value"]])
def test_mask_leaves_words_alone_without_a_secret_in_them(secrets: list[str]) -> None:
    assert mask("nothing here  to hide…", secrets) == "nothing here  to hide…"


@given(
    st.text(max_size=20),
    st.text("abcXYZ0123-_.:/+=% ", min_size=1, max_size=24).filter(str.strip),
    st.text(max_size=20),
)
def test_mask_lets_no_secret_through(before: str, secret: str, after: str) -> None:
    whole = " ".join(secret.split())
    found = mask(f"{before} {whole} {after}", [secret])

    assert len(whole) < 6 or whole not in found
    assert "***" in found


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_mask_never_raises(words: str, secrets: list[str]) -> None:
    assert mask(words, secrets) is not None
    assert mask("\ud83d", ["\ud83d\udc00\ud83d secret"]) is not None


def test_clean_drops_what_turns_a_terminal() -> None:
    assert clean("a\u202eb\u2066c\x9bd\x07e\u00a0f\u2028g", 99) == "abcde f g"


@pytest.mark.parametrize(
    ("limit", "shown"), [(4, "abcd"), (3, "ab…"), (2, "a…"), (1, "…"), (0, "")]
)
def test_clean_cuts_to_as_many_characters_as_there_may_be(limit: int, shown: str) -> None:
    assert clean(" abcd\n", limit) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("abcdé", "abcdé"), ("abcdef", "abcdef"), ("abcdefg", "abc…"), ("abéfgh", "ab…")],
)
def test_cut_counts_bytes_and_leaves_no_part_of_a_character(text: str, shown: str) -> None:
    assert cut(text, 6) == shown


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\xef\xbb\xbf too large \n", "too large"),
        (b"123456789\xff", "123456789\ufffd"),
        (b"12345678\xff", ""),
        (b"12345678\0", ""),
        (b"", ""),
    ],
)
def test_text_of_a_body_is_empty_where_a_tenth_of_it_is_none(body: bytes, text: str) -> None:
    assert decode_text(body) == text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("plain <b>bold</b> end", "plain bold end"),
        ("<html><title>Bad &amp; worse</title><body>try later", "Bad & worse: try later"),
        ("<TITLE>502</TITLE><h1>502</h1> gateway", "502 gateway"),
        ("<title>Only</title>", "Only"),
        (
            "a<script>if (1<2) <b>x</b></script>b<style>c</style>d<svg><title>e</title></svg>f",
            "abdf",
        ),
        ("<title>a <script>b</title>c", "a b: c"),
        ("a<script>b", "a"),
        ("1 < 2 <", "1"),
    ],
)
def test_page_is_shown_by_its_title_and_its_text(page: str, text: str) -> None:
    assert strip_tags(page).replace(" ", "") == text.replace(" ", "")


SIX = "sixsix"


@pytest.mark.parametrize(
    ("words", "secret", "masked"),
    [
        (f"x{SIX}x", SIX, "x***x"),
        (f"x{SIX[1:]}x", SIX[1:], f"x{SIX[1:]}x"),
        (f"x{SIX}x", "Basic " + b64encode(f"u:{SIX}".encode()).decode(), "x***x"),
        (f"x{SIX}x", b64encode(SIX.encode()).decode(), "x***x"),
        (f"x{SIX}x", "six%73ix", "x***x"),
        (f"xa{SIX[1:]}…", SIX[1:], f"xa{SIX[1:]}…"),
        ("secrettok", "c2VjcmV0!!!!dG9r", "secrettok"),  # which is no base64
        ("\x01secret", b64encode(b"\x01secret").decode(), "\x01secret"),
    ],
)
def test_mask_takes_parts_of_six_characters_for_secret_wherever_they_stand(
    words: str, secret: str, masked: str
) -> None:
    assert mask(words, [secret]) == masked


@pytest.mark.parametrize("plain", ["seven-s", "eight-ss", "nine-chars"])
@pytest.mark.parametrize("is_padded", [True, False])
def test_mask_decodes_base64_of_any_length(plain: str, is_padded: bool) -> None:
    secret = b64encode(plain.encode()).decode()
    assert mask(f"no {plain}", [secret if is_padded else secret.rstrip("=")]) == "no ***"
