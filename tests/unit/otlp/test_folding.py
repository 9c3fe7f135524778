"""Replacing deep values in the text: where it cuts, and that text inside strings never counts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.otlp.folding import fold_for_protobuf, replace_below

DEEP = '{"arrayValue":{"values":[{"kvlistValue":{"values":[{"key":"k","value":{}}]}},{}]}}'


def values(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: {"arrayValue": {"values": items}})
            | st.lists(inner, max_size=3).map(
                lambda items: {
                    "kvlistValue": {
                        "values": [{"key": "kvlistValue", "value": item} for item in items]
                    }
                }
            )
        ),
        max_leaves=12,
    )


TRICKY = st.text('"\\{}[]:,arrayValue', max_size=20) | st.sampled_from(
    ['"arrayValue":{', '{"kvlistValue":', "arrayValue", "\\"]
)
VALUES = values(TRICKY.map(lambda text: {"stringValue": text}) | st.just({}))


def fold_tree(value: Any, levels: int) -> Any:
    """The same as the code under test, on the tree instead of the text."""
    for member, inner in (("arrayValue", lambda item: item), ("kvlistValue", None)):
        if member not in value:
            continue
        if levels == 0:
            return {"stringValue": json.dumps(value, separators=(",", ":"))}
        items = value[member]["values"]
        if inner is None:
            folded = [{**item, "value": fold_tree(item["value"], levels - 1)} for item in items]
        else:
            folded = [fold_tree(item, levels - 1) for item in items]
        return {member: {"values": folded}}
    return value


@given(VALUES, st.integers(0, 4))
def test_replace_below_does_to_the_text_what_recursion_does_to_the_tree(
    value: Any, levels: int
) -> None:
    text = json.dumps({"value": value}, separators=(",", ":")).encode()

    def as_string(inner: bytes) -> bytes:
        return b'{"stringValue":%b}' % json.dumps(inner.decode()).encode()

    assert json.loads(replace_below(text, levels, as_string)) == {"value": fold_tree(value, levels)}


def test_replace_below_gives_each_outermost_value_once() -> None:
    seen: list[bytes] = []

    def note(value: bytes) -> bytes:
        seen.append(value)
        return b"{}"

    text = f'{{"a":[{DEEP},{DEEP}],"b":{DEEP}}}'.encode()

    assert replace_below(text, 0, note) == b'{"a":[{},{}],"b":{}}'
    assert seen == [DEEP.encode()] * 3
    assert replace_below(text, 1, note).count(b"[{},{}]") == 4 - 1
    assert replace_below(text, 2, note) == text


def test_replace_below_counts_a_value_with_both_containers_once() -> None:
    text = b'{"arrayValue":{"values":[]},"kvlistValue":{"values":[{"value":{"arrayValue":{}}}]}}'

    assert replace_below(text, 1, lambda _: b"0").endswith(b'[{"value":0}]}}')


def test_fold_for_protobuf_leaves_shallow_fragments_alone() -> None:
    assert fold_for_protobuf(DEEP.encode()) == DEEP.encode()


@pytest.mark.parametrize("text", [b"}", b"{", b"[{}", b"{}]"])
def test_replace_below_raises_value_error_when_brackets_do_not_pair(text: bytes) -> None:
    with pytest.raises(ValueError, match="pair"):
        replace_below(text + b'"arrayValue":', 30, lambda value: value)
