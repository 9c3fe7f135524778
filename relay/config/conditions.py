"""Conditions as the configuration has them: CEL, read and compiled once, and bounded.

CEL is what expressions are written in, by the `cel` package; its words are https://cel.dev. What is
particular here:

- The variables are those of `VARIABLES`, all present whatever the signal; those of other signals
  are empty. Of `attributes` and `resource` only the keys that the expression names are handed in.
- `matches` takes a pattern of RE2 that stands in the expression.
- A condition must not cost more than its item is worth. So it is at most `MOST_CHARACTERS` long,
  has no loop inside a loop, and none that builds a list (`map`, `filter`): that copies the list for
  each element. How often a loop may turn is bounded where it runs (`Expression.is_too_much`).

The library is imported with the first condition.
"""

import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

from relay.config.regexps import compile_pattern
from relay.model.errors import ConfigError

VARIABLES: Final = (
    *("signal", "name", "attributes", "resource", "scope", "trace_id"),
    *("kind", "status", "duration"),
    *("severity", "severity_text", "body"),
    *("type", "unit", "value"),
)
MAPS: Final = ("attributes", "resource", "scope")
MOST_CHARACTERS: Final = 1000
_EXAMPLE: Final = 'such as status == "ERROR" || attributes["http.route"] == "/healthz"'
LOOPS: Final = ("all", "exists", "exists_one")
_BUILDERS: Final = ("map", "filter")
_FUNCTIONS: Final = (
    *("has", "size", "contains", "startsWith", "endsWith", "matches", "in"),
    *("int", "uint", "double", "string", "bytes", "timestamp", "type", "duration"),
    *LOOPS,
)
_CONSTANTS: Final = ("true", "false", "null", "in", "int", "double", "string", "bool", "list")
# What `matches` is called inside, so that the patterns are ours and not the library's.
_MATCHES: Final = "re2matches"
# Microseconds, measured: a token in a turn of a loop, and a byte of text that it looks through.
_TOKEN_MICROSECONDS: Final = 0.15
_BYTE_MICROSECONDS: Final = 0.013
_ALLOWED_MICROSECONDS: Final = 500.0  # a KiB of what is handed in

_TOKEN: Final = re.compile(
    r"""(?P<space>(?:\s|//[^\n]*)+)
    |(?P<string>[bB]?[rR]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>\.?\d(?:[\w.]|(?<=[eE])[+-])*)
    |(?P<sign>&&|\|\||[<>=!]=|.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class Expression(NamedTuple):
    """A condition, compiled. `program.execute(values)` is its result.

    `variables` are those that `values` must hold; of a map in `keys` only these keys, of one that
    is not there all. `functions` belong to `values`, too.
    """

    source: str
    program: Any
    variables: tuple[str, ...]
    keys: Mapping[str, tuple[str, ...]]
    functions: Mapping[str, Callable[..., Any]]
    tokens: int
    is_looping: bool

    def is_too_much(self, elements: int, longest: int, handed_bytes: int) -> bool:
        """Whether a loop over `elements` is more than an item of so many bytes is worth."""
        a_turn = self.tokens * (_TOKEN_MICROSECONDS + _BYTE_MICROSECONDS * longest / 4)
        return elements * a_turn > _ALLOWED_MICROSECONDS * max(1.0, handed_bytes / 1024)


def compile_condition(text: str) -> Expression:
    """Read a condition. Raises ConfigError with the place of what is wrong in it."""
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"is too long: a condition has at most {MOST_CHARACTERS} characters")
    _parse(text)
    tokens = _tokens(text)
    bound = _bound_names(text, tokens)
    _check_names(text, tokens, bound)
    patterns = _patterns(text, tokens)
    functions: dict[str, Callable[..., Any]] = {}
    source = text
    if patterns:
        functions[_MATCHES] = lambda value, written: patterns[written].search(value) is not None
        for index in reversed(range(len(tokens))):
            token = tokens[index]
            if token.text == "matches" and _is_call(tokens, index):
                end = token.at + len(token.text)
                source = source[: token.at] + _MATCHES + source[end:]
    used = {token.text for index, token in enumerate(tokens) if _is_variable(tokens, index)}
    return Expression(
        text,
        _parse(source),
        tuple(name for name in VARIABLES if name in used),
        _keys(text, tokens),
        functions,
        len(tokens),
        bool(bound),
    )


def _parse(source: str) -> Any:
    """The program. Raises ConfigError with the place where it goes wrong."""
    # The library imports a command line of its own with itself, and typer, rich, prompt-toolkit and
    # pygments for that: 17 MiB and 0.1 s of everybody who has a condition. Its place is taken.
    sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
    import cel

    try:
        return cel.compile(source)
    except ValueError as error:
        found = re.search(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)", str(error))
        if found is None:
            raise ConfigError("is no CEL expression", hint=_EXAMPLE) from None
        words = found[3].split(" expecting ")[0].replace("'<EOF>'", "its end")
        raise ConfigError(
            f"is no CEL at line {found[1]}, column {found[2]}: {words}", hint=_EXAMPLE
        ) from None


def _tokens(text: str) -> list[_Token]:
    found = ((match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(text))
    return [_Token(*each) for each in found if each[0] != "space"]


def _fault(text: str, token: _Token, words: str, hint: str | None = None) -> ConfigError:
    line = text.count("\n", 0, token.at) + 1
    column = token.at - text.rfind("\n", 0, token.at)
    return ConfigError(f"{words} (line {line}, column {column})", hint=hint)


def _text_at(tokens: Sequence[_Token], index: int) -> str:
    return tokens[index].text if 0 <= index < len(tokens) else ""


def _is_member(tokens: Sequence[_Token], index: int) -> bool:
    return _text_at(tokens, index - 1) == "."


def _is_call(tokens: Sequence[_Token], index: int) -> bool:
    return tokens[index].kind == "name" and _text_at(tokens, index + 1) == "("


def _is_variable(tokens: Sequence[_Token], index: int) -> bool:
    return (
        tokens[index].text in VARIABLES
        and not _is_member(tokens, index)
        and not _is_call(tokens, index)
    )


def _end_of_call(tokens: Sequence[_Token], index: int) -> int:
    """Where the bracket closes that stands behind the name at `index`."""
    depth = 0
    for at in range(index + 1, len(tokens)):
        depth += _text_at(tokens, at) in ("(", "[", "{")
        depth -= _text_at(tokens, at) in (")", "]", "}")
        if not depth:
            return at
    return len(tokens)


def _bound_names(text: str, tokens: Sequence[_Token]) -> set[str]:
    """What the loops call their elements. Raises ConfigError for a loop that is not allowed."""
    bound, open_until = set(), -1
    for index, token in enumerate(tokens):
        if not (_is_call(tokens, index) and _is_member(tokens, index)):
            continue
        if token.text in _BUILDERS:
            raise _fault(
                text, token, f"{token.text} is not for conditions", f"there are {', '.join(LOOPS)}"
            )
        if token.text in LOOPS:
            if index < open_until:
                words = "has a loop inside a loop, which may take for ever on a large item"
                raise _fault(text, token, words, "one of all, exists or exists_one at a time")
            open_until = _end_of_call(tokens, index)
            name = _text_at(tokens, index + 2)
            if name in VARIABLES:
                raise _fault(text, tokens[index + 2], f"{name} is a variable: call it otherwise")
            bound.add(name)
    return bound


def _check_names(text: str, tokens: Sequence[_Token], bound: set[str]) -> None:
    for index, token in enumerate(tokens):
        if token.kind != "name":
            continue
        if _is_call(tokens, index):
            if token.text not in _FUNCTIONS and not re.match("get[A-Z]", token.text):
                raise _fault(text, token, f"there is no {token.text}()", _near(token, _FUNCTIONS))
        elif not _is_member(tokens, index) and token.text not in {*VARIABLES, *bound, *_CONSTANTS}:
            words = f"there is no variable {token.text}"
            raise _fault(text, token, words, _near(token, VARIABLES))


def _near(token: _Token, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(token.text, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _patterns(text: str, tokens: Sequence[_Token]) -> dict[str, Any]:
    """What `matches` is called with, compiled, by what is written."""
    found = {}
    for index, token in enumerate(tokens):
        if token.text != "matches" or not _is_call(tokens, index):
            continue
        written = tokens[index + 2] if index + 2 < len(tokens) else token
        if written.kind != "string" or _text_at(tokens, index + 3) != ")":
            words = "matches takes one pattern, in quotes"
            raise _fault(text, token, words, 'such as name.matches("^GET /health")')
        pattern = _literal(written)
        try:
            found[pattern] = compile_pattern(pattern)
        except ConfigError as error:
            raise _fault(text, written, error.message, error.hint) from None
    return found


def _keys(text: str, tokens: Sequence[_Token]) -> dict[str, tuple[str, ...]]:
    """The keys of each map that is asked for nothing else."""
    keys: dict[str, list[str]] = {}
    whole = set()
    for index, token in enumerate(tokens):
        if token.text not in MAPS or not _is_variable(tokens, index):
            continue
        key = _key(text, tokens, index)
        if key is None:
            whole.add(token.text)
        else:
            keys.setdefault(token.text, []).append(key)
    return {name: tuple(dict.fromkeys(each)) for name, each in keys.items() if name not in whole}


def _key(text: str, tokens: Sequence[_Token], index: int) -> str | None:
    """The key that the map at `index` is asked for; None where that cannot be told."""
    after = tokens[index + 1 : index + 4]
    signs = [each.text for each in after]
    if signs[:1] == ["."] and len(after) > 1 and not _is_call(tokens, index + 2):
        if signs[2:] == ["."] and not _is_call(tokens, index + 4) and tokens[index].text != "scope":
            name, rest = tokens[index].text, f"{signs[1]}.{_text_at(tokens, index + 4)}"
            raise _fault(text, tokens[index], f"{name}.{rest} is no key", f'write {name}["{rest}"]')
        return signs[1]
    if signs[:1] == ["["] and signs[2:] == ["]"] and after[1].kind == "string":
        return _literal(after[1])
    is_asked = signs[:1] not in (["["], ["."]) and _text_at(tokens, index - 1) == "in"
    begins = index == 2 or _text_at(tokens, index - 3) in ("(", "&&", "||", "?", ":")
    if is_asked and begins and index >= 2 and tokens[index - 2].kind == "string":
        return _literal(tokens[index - 2])
    return None


def _literal(token: _Token) -> str:
    return str(_parse(token.text).execute())
