"""The search line: what each term means, and that no text is too much for it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.view.query import BadSearch, Item, parse

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"
ITEM = Item(
    service="Shop",
    name="GET /cart",
    text="out of stock",
    trace_id=TRACE,
    span_id=SPAN,
    is_error=True,
    level=17,
    duration_ns=700_000_000,
    values={"customer.tier": "gold", "n": "3", "note": "two words"},
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shop",
        "cart",
        "STOCK",
        '"of stock"',
        "service:shop",
        "name:get",
        "customer.tier=gold",
        "customer.tier=",
        'note="two words"',
        "error",
        "level:warn",
        "level:ERROR",
        ">500ms",
        "<2s",
        ">=500ms",
        TRACE,
        TRACE.upper(),
        f"trace:{TRACE}",
        SPAN,
        "-silver",
        "-customer.tier=silver",
        "-nothing=",
        "customer.tier=gold error >500ms -name:POST",
        '"GET /cart',
    ],
)
def test_term_that_holds(text: str) -> None:
    assert parse(text)(ITEM)


@pytest.mark.parametrize(
    "text",
    [
        "silver",
        "service:cart",
        "name:shop",
        "customer.tier=Gold",
        "customer.tier=gol",
        "nothing=",
        "-error",
        "level:fatal",
        ">1s",
        "<500ms",
        TRACE.replace("0", "1"),
        "-shop",
        "-customer.tier=gold error >500ms",
        "customer.tier=gold silver",
    ],
)
def test_term_that_does_not_hold(text: str) -> None:
    assert not parse(text)(ITEM)


def test_item_without_a_duration_is_neither_long_nor_short() -> None:
    assert not parse(">1ms")(Item())
    assert not parse("<1ms")(Item())


@pytest.mark.parametrize("text", [">soon", "<", "level:loud", "x" * 1001, "a " * 21])
def test_search_that_cannot_be_understood_says_what_would_be_right(text: str) -> None:
    with pytest.raises(BadSearch, match=r"takes|at most"):
        parse(text)


def test_trace_that_is_named_is_told() -> None:
    assert parse(f"error {TRACE.upper()}").trace_id == TRACE
    assert parse(f"trace:{TRACE}").trace_id == TRACE
    assert parse(f"-{TRACE}").trace_id == ""
    assert parse(SPAN).trace_id == ""


@given(st.text(max_size=80))
def test_any_text_is_a_search_or_is_refused(text: str) -> None:
    with contextlib.suppress(BadSearch):
        assert parse(text)(ITEM) in (True, False)


WORDS = st.text(
    st.characters(exclude_categories=("Z", "C"), exclude_characters='"\\'), min_size=1, max_size=20
).filter(lambda word: not word.startswith(("-", "<", ">")))


@given(WORDS, WORDS)
def test_attribute_is_found_by_what_it_is(key: str, value: str) -> None:
    key = key.replace("=", "_").replace(":", "_")
    item = Item(values={key: value})

    assert parse(f"{key}={value}")(item)
    assert not parse(f"-{key}={value}")(item)
    assert not parse(f"{key}={value}")(Item(values={key: value + "x"}))


@given(st.lists(WORDS, max_size=5))
def test_order_of_terms_does_not_matter(words: list[str]) -> None:
    try:
        one, other = parse(" ".join(words)), parse(" ".join(reversed(words)))
    except BadSearch:
        return
    assert one(ITEM) == other(ITEM)
