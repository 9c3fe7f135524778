"""docs/events.md lists every event that the relay logs, with its level and its fields."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "events.md"
SOURCES = sorted((ROOT / "relay").rglob("*.py")) + sorted((ROOT / "mockcollector").rglob("*.py"))

# What a method of the logger writes as `level`.
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
ROW = re.compile(r"(?m)^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \| ([^|]+) \|$")

Event = tuple[str, tuple[str, ...]]  # level and sorted fields


def names_of(argument: ast.expr) -> list[str]:
    """The events that a call may log: `"a"`, or `"a" if … else "b"`."""
    if isinstance(argument, ast.IfExp):
        return names_of(argument.body) + names_of(argument.orelse)
    assert isinstance(argument, ast.Constant), f"no name of an event: {ast.unparse(argument)}"
    assert isinstance(argument.value, str)
    return [argument.value]


def events_of(source: str) -> list[tuple[str, Event]]:
    """Each event that the source logs: `log.<level>("event", field=…)`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, method = node.func.value, node.func.attr
        if not (isinstance(owner, ast.Name) and owner.id == "log" and method in LEVELS):
            continue
        keys = {keyword.arg for keyword in node.keywords}
        assert None not in keys, f"fields by ** cannot be listed: {ast.unparse(node)}"
        assert len(node.args) == 1, f"more than the name by position: {ast.unparse(node)}"
        fields = {str(key) for key in keys}
        if method == "exception" or "exc_info" in fields:
            fields = fields - {"exc_info"} | {"exception"}
        event = LEVELS[method], tuple(sorted(fields))
        found += [(name, event) for name in names_of(node.args[0])]
    return found


def logged() -> dict[str, Event]:
    """Every event of the product. One name has one level and one set of fields."""
    found: dict[str, Event] = {}
    for path in SOURCES:
        for name, event in events_of(path.read_text()):
            assert found.setdefault(name, event) == event, f"{name} is logged in two ways"
    return found


def documented() -> dict[str, Event]:
    """Every event of the tables."""
    rows = ROW.findall(DOCUMENT.read_text())
    assert len({row[0] for row in rows}) == len(rows), "an event stands in two rows"
    return {
        name: (level, tuple(sorted(re.findall(r"`(\w+)`", fields))))
        for name, level, fields, _when, _what_to_do in rows
    }


def test_every_event_is_documented_as_it_is_logged() -> None:
    assert documented() == logged()


def test_every_row_of_a_table_is_read() -> None:
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]

    assert len(lines) == len(documented())


def test_every_logger_is_called_log() -> None:
    """Else its events would escape this file."""
    others = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text().splitlines()
        if "get_logger(" in line and not re.match(r"\s*log(: [\w.]+)? = structlog\.", line)
    ]

    assert others == []


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('log.info("ready", port=1)', ("ready", ("info", ("port",)))),
        ('log.exception("broke", job=2)', ("broke", ("error", ("exception", "job")))),
        ('log.critical("died", exc_info=e)', ("died", ("critical", ("exception",)))),
        ('log.debug("a" if x else "b")', ("a", ("debug", ()))),
    ],
)
def test_a_call_is_read_as_it_will_be_written(line: str, event: tuple[str, Event]) -> None:
    assert events_of(line)[0] == event
