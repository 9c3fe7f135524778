"""Masking: a secret must not come back in any of the forms in which upstreams print it."""

import html
import json
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.otlp.words import clean, mask

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
