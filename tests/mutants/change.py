"""The small changes that can be made to a module, each as a piece of its text to be replaced."""

import ast
import copy
from collections.abc import Iterator
from typing import Final, NamedTuple

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
}
# What cannot happen: removing such a line shows in no test, and should not.
_IMPOSSIBLE: Final = ("RuntimeError", "TypeError")


class Change(NamedTuple):
    """`new` in the place of the bytes `start`…`end` of a module."""

    start: int
    end: int
    new: str

    def apply(self, source: bytes) -> bytes:
        """The module with it."""
        return source[: self.start] + self.new.encode() + source[self.end :]


def changes(source: bytes) -> list[Change]:
    """All that can be made to a module; each leaves one that compiles.

    Left alone are annotations, decorators, texts, what is logged, what a protocol's methods default
    to, and the constants of a module, which are settings: what they are tuned to is no behaviour.
    """
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found = []
    for node, new in _nodes(ast.parse(source), is_inside=False):
        start = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        found.append(Change(start, end, new))
    return found


def _nodes(node: ast.AST, *, is_inside: bool) -> Iterator[tuple[ast.AST, str]]:
    """Each node that can be replaced, and by what; `is_inside` of a function."""
    if isinstance(node, ast.JoinedStr) or _is_no_behaviour(node):
        return
    if is_inside:
        for new in _replacements(node):
            yield node, new
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_comment"}:
            continue
        inside = is_inside or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _nodes(child, is_inside=inside)


def _is_no_behaviour(node: ast.AST) -> bool:
    match node:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("log")))):
            return True
        case ast.Expr(ast.Constant(str())) | ast.keyword(arg="strict"):
            return True
        case ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body):
            return all(isinstance(each, ast.Expr) and _is_constant(each.value) for each in body)
    return False


def _is_constant(node: ast.AST) -> bool:
    """Also the `...` of a protocol's method, which nothing calls."""
    return isinstance(node, ast.Constant)


def _replacements(node: ast.AST) -> Iterator[str]:
    return _of_statement(node) if isinstance(node, ast.stmt) else _of_expression(node)


def _of_expression(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in _COMPARED:
            yield _with(node, ops=[_COMPARED[type(operator)]()])
        case ast.BoolOp(op=operator):
            yield _with(node, op=ast.Or() if isinstance(operator, ast.And) else ast.And())
        case ast.UnaryOp(ast.Not(), operand):
            yield f"bool({ast.unparse(operand)})"
        case ast.BinOp(op=operator) if type(operator) in _COMPUTED and not _is_text(node):
            yield _with(node, op=_COMPUTED[type(operator)]())
        case ast.Constant(bool(value)):
            yield repr(not value)
        case ast.Constant(int(value)):
            yield repr(value + 1)


def _of_statement(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.AugAssign(op=operator) if type(operator) in _COMPUTED:
            yield ast.unparse(_changed(node, op=_COMPUTED[type(operator)]()))
        case ast.Expr(ast.Call() | ast.Await(ast.Call())) | ast.Delete():
            yield "pass"
        case ast.Return(value) if not (value is None or _is_none_or_false(value)):
            yield "return None"
        case ast.Break():
            yield "continue"
        case ast.Continue():
            yield "break"
        case ast.Raise(ast.Call(ast.Name(name))) if name not in _IMPOSSIBLE:
            yield "pass"


def _is_none_or_false(node: ast.AST) -> bool:
    """False is the same to whoever asks; True in its place is another change."""
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _with(node: ast.AST, **fields: object) -> str:
    return f"({ast.unparse(_changed(node, **fields))})"
