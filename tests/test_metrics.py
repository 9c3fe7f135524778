"""docs/metrics.md lists every metric, and docs/grafana uses only metrics and labels that exist."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.admin.metrics import families
from tests.support.builders import request, span
from tests.support.relay_process import Relay

DOCS = Path(__file__).resolve().parent.parent / "docs"
BY_PROMETHEUS = {"instance", "job"}
ROW = re.compile(r"(?m)^\| `(otlp_relay_\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$")
RULE = re.compile(
    r"      - alert: (?P<alert>[A-Z]\w+)\n"
    r"        expr: '(?P<expr>[^'\n]+)'\n"
    r"        for: \d+[ms]\n"
    r"        labels:\n          severity: (?:info|warning|critical)\n"
    r"        annotations:\n"
    r"          summary: '(?P<summary>[^'\n]+)'\n"
    r"          description: '(?P<description>[^'\n]+)'\n"
)
# What PromQL has of its own in the expressions here.
WORDS = {"sum", "min", "max", "by", "rate", "increase", "unless", "on"}


class Row(NamedTuple):
    """A metric as Prometheus knows it."""

    name: str
    kind: str
    labels: str
    help: str

    def __str__(self) -> str:
        return f"| `{self.name}` | {self.kind} | {self.labels} | {self.help} |"


def rows_of(status: dict[str, Any]) -> list[Row]:
    """Every metric of that status, by name."""
    status["buffer"]["full_in_seconds"] = 60  # absent while it is not filling
    return sorted(
        Row(
            each.name + ("_total" if each.type == "counter" else ""),
            each.type,
            ", ".join(f"`{label}`" for label in each._labelnames),  # type: ignore[attr-defined]
            each.documentation,
        )
        for each in families(status)
    )


def documented() -> dict[str, Row]:
    """Every row of the table."""
    rows = [Row(*found) for found in ROW.findall((DOCS / "metrics.md").read_text())]
    return {row.name: row for row in rows}


def labels_of(row: Row) -> set[str]:
    return set(re.findall(r"`(\w+)`", row.labels))


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    destination = {"there": {"endpoint": "http://127.0.0.1:1/v1/traces"}}
    with Relay(tmp_path_factory.mktemp("metrics"), destination) as relay:
        relay.post(request(span(), span(traceId="0" * 32)))
        relay.post(b"{")
        yield relay


def test_table_is_what_the_relay_exports(relay: Relay) -> None:
    rows = rows_of(relay.status())

    wanted = "\n".join(map(str, rows))
    assert list(documented().values()) == rows, f"the table should be\n{wanted}"


def test_what_prometheus_gets_stands_in_the_table(relay: Relay) -> None:
    status, text = relay.get("/metrics", parse=False)
    assert status == 200
    rows = documented()

    for family in text_string_to_metric_families(text):
        row = rows[family.name + ("_total" if family.type == "counter" else "")]
        assert (row.kind, row.help) == (family.type, family.documentation)
        for sample in family.samples:
            assert set(sample.labels) == labels_of(row), sample.name


def wrong_in(expression: str, legends: Iterable[str]) -> list[str]:
    """What an expression, or a text beside it, names that no metric has."""
    rows = documented()
    bare = re.sub(r'"[^"]*"', "", expression)
    names = set(re.findall(r"otlp_relay_\w+", bare))
    wrong = [f"{name} is no metric" for name in names if name not in rows]
    known = BY_PROMETHEUS | {label for name in names & set(rows) for label in labels_of(rows[name])}
    for name, matchers in re.findall(r"(otlp_relay_\w+)\{([^}]*)\}", bare):
        own = (labels_of(rows[name]) if name in rows else set()) | BY_PROMETHEUS
        used = set(re.findall(r"(\w+)\s*[=!]", matchers))
        wrong += [f"{name} has no label {label}" for label in used - own]
    used = {
        label.strip()
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", bare)
        for label in labels.split(",")
    }
    for text in legends:
        used |= set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text))
    wrong += [f"no label {label} in {expression}" for label in used - known]
    rest = re.sub(r"otlp_relay_\w+(\{[^}]*\})?|\[[^]]*\]|(by|on) \([^)]*\)", "", bare)
    wrong += [f"{word} is no word" for word in set(re.findall(r"[a-z_]+", rest)) - WORDS]
    if any(bare.count(begin) != bare.count(end) for begin, end in ("()", "{}", "[]")):
        wrong.append(f"unbalanced: {expression}")
    return wrong


def test_alerts_are_rules_on_what_exists() -> None:
    text = (DOCS / "grafana" / "alerts.yml").read_text()
    rules = list(RULE.finditer(text))
    head, _, body = text.partition("    rules:\n")

    assert head.splitlines()[1:] == ["groups:", "  - name: otlp-relay"]
    assert "".join(rule[0] for rule in rules) == body
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert [
        wrong
        for rule in rules
        for wrong in wrong_in(rule["expr"], [rule["summary"], rule["description"]])
    ] == []


def test_dashboard_shows_what_exists() -> None:
    board = json.loads((DOCS / "grafana" / "dashboard.json").read_text())
    targets = [target for panel in board["panels"] for target in panel["targets"]]

    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert [
        wrong for target in targets for wrong in wrong_in(target["expr"], [target["legendFormat"]])
    ] == []


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("otlp_relay_reddy == 0", "otlp_relay_reddy is no metric"),
        ('otlp_relay_ready{signal="logs"}', "otlp_relay_ready has no label signal"),
        ("sum by (colour) (otlp_relay_ready)", "no label colour in sum by (colour)"),
        ("summ(otlp_relay_ready)", "summ is no word"),
        ("sum(otlp_relay_ready", "unbalanced"),
    ],
)
def test_what_does_not_exist_is_found(expression: str, wrong: str) -> None:
    (found,) = wrong_in(expression, [])
    assert found.startswith(wrong)
