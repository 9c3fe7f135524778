"""Conditions are read once, and what is wrong with one is told with its place."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.conditions import MOST_CHARACTERS, VARIABLES, compile_condition
from relay.model.errors import ConfigError
from tests.support.examples import examples


@pytest.mark.parametrize(
    ("text", "variables", "keys"),
    [
        ('attributes["http.route"] == "/x"', ("attributes",), {"attributes": ("http.route",)}),
        ("has(attributes.a) && attributes.b == 1", ("attributes",), {"attributes": ("a", "b")}),
        ('"a.b" in attributes', ("attributes",), {"attributes": ("a.b",)}),
        (r'resource["a\"b"] == r"\d"', ("resource",), {"resource": ('a"b',)}),
        ('attributes["a"] == 1 || size(attributes) > 1', ("attributes",), {}),
        ('"a" + "b" in attributes', ("attributes",), {}),
        ("attributes.exists(k, k == name)", ("name", "attributes"), {}),
        ('scope.attributes["a"] == scope.name', ("scope",), {"scope": ("attributes", "name")}),
        ('signal == "logs" && duration > 2.0 // a note', ("signal", "duration"), {}),
        ('body == "attributes[1] // in"', ("body",), {}),
    ],
)
def test_what_a_condition_names_is_all_that_it_is_handed(
    text: str, variables: tuple[str, ...], keys: dict[str, tuple[str, ...]]
) -> None:
    found = compile_condition(text)

    assert set(found.variables) == set(variables)
    assert found.keys == keys


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("", "line 1, column 1", "such as"),
        ("name ==", "line 1, column 8", "such as"),
        ('name == "x"\n && && true', "line 2, column 5", "such as"),
        ("nam == 1", "there is no variable nam (line 1, column 1)", "did you mean name?"),
        ("name.startWith('a')", "there is no startWith() (line 1, column 6)", "startsWith"),
        ("attributes.http.route == 1", "attributes.http.route is no key", '["http.route"]'),
        ('name.matches("(")', "is no pattern of RE2", "Syntax"),
        ("name.matches(unit)", "matches takes one pattern", "such as"),
        ("body.map(x, x)", "map is not for conditions", "exists"),
        ("body.all(a, body.all(b, a == b))", "a loop inside a loop (", ""),
        ("body.all(name, name == 1)", "name is a variable", ""),
        ("true" + " || true" * MOST_CHARACTERS, "too long", ""),
        ("(" * 400 + "1" + ")" * 400, "is no CEL", ""),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str, hint: str) -> None:
    if "loop inside" in told:
        told = told.rstrip(" (")

    with pytest.raises(ConfigError) as caught:
        compile_condition(text)

    assert told in caught.value.message
    assert hint in (caught.value.hint or "")


def test_patterns_are_ours_wherever_the_word_stands() -> None:
    found = compile_condition('attributes.matches == "matches" && name.matches("^a+$")')

    values = {"attributes": {"matches": "matches"}, "name": "aaa", **found.functions}
    assert found.program.execute(values) is True
    assert found.program.execute({**values, "name": "b"}) is False


PARTS = st.sampled_from(
    [
        *VARIABLES,
        *('"x"', "1", "2.5", "&&", "||", "==", ">", "(", ")", "[", "]", ".", "!", ",", "in", "-"),
        *(".all(", ".exists(", "matches(", "size(", "has(", "?", ":", "{", "}", "//", "'", "\n"),
    ]
)


@settings(max_examples=examples(1000), deadline=None)
@given(st.lists(PARTS, max_size=14).map(" ".join) | st.text(max_size=40))
def test_any_text_is_a_condition_or_an_error_of_the_configuration(text: str) -> None:
    try:
        found = compile_condition(text)
    except ConfigError:
        return
    assert set(found.variables) <= set(VARIABLES)


def test_a_condition_brings_its_library_and_not_what_that_has_for_a_command_line() -> None:
    """17 MiB and 0.1 s of a daemon."""
    code = (
        "import sys; from relay.config.conditions import compile_condition;"
        "compile_condition('status == \"ERROR\"');"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'cel'" in done.stdout
    for name in ("typer", "pydantic", "rich", "prompt_toolkit", "pygments"):
        assert f"'{name}'" not in done.stdout
