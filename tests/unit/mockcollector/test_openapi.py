"""The OpenAPI document names the routes that there are, and the fields that they show."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

import mockcollector
from mockcollector import MockCollector
from tests.unit.mockcollector.exchange import send

DOCUMENT = json.loads((Path(mockcollector.__file__).parent / "openapi.json").read_text())
SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "pay",
    "events": [{"name": "declined"}],
    "links": [{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"}],
}
POINT = {"timeUnixNano": "1", "asInt": "2"}
SENT: dict[str, dict[str, Any]] = {
    "/v1/traces": {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]},
    "/v1/logs": {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "1"}]}]}]},
    "/v1/metrics": {
        "resourceMetrics": [
            {"scopeMetrics": [{"metrics": [{"name": "n", "gauge": {"dataPoints": [POINT]}}]}]}
        ]
    },
}


@pytest.fixture
def collector() -> Iterator[MockCollector]:
    with MockCollector(control_port=0) as running:
        for path, document in SENT.items():
            send(running, document, path=path)
        send(running, b"\x16\x03\x01")
        running.script.add("503*3")
        yield running


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310
        return json.loads(answer.read())


def routes_of(app: Starlette) -> set[tuple[str, str]]:
    """Path and method of everything but what is handed on to a session."""
    found = set()
    for route in app.routes:
        if isinstance(route, Mount):
            assert isinstance(route.app, Starlette)
            found |= routes_of(route.app)
        elif isinstance(route, Route) and not route.path.endswith("{rest:path}"):
            path = re.sub(r":\w+}", "}", route.path)
            found |= {(path, method.lower()) for method in (route.methods or set()) - {"HEAD"}}
    return found


def test_document_names_all_routes_and_no_others(collector: MockCollector) -> None:
    named = {
        (path, method)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method != "parameters"
    }

    assert named == routes_of(collector._control_app())


def test_document_is_served(collector: MockCollector) -> None:
    assert get(f"{collector.control_url}/openapi.json") == DOCUMENT


def test_every_reference_leads_somewhere() -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))

    assert names <= DOCUMENT["components"]["schemas"].keys()
    assert DOCUMENT["components"]["schemas"].keys() - names == set()


@pytest.mark.parametrize(
    ("route", "where", "schema"),
    [
        ("/", [], "Description"),
        ("/counts", [], "Counts"),
        ("/spans", ["spans", 0], "Span"),
        ("/log-records", ["log_records", 0], "LogRecord"),
        ("/data-points", ["data_points", 0], "DataPoint"),
        ("/requests", ["requests", 0], "Request"),
        ("/requests/1", [], "WholeRequest"),
        ("/script", [], "Script"),
    ],
)
def test_schema_has_the_fields_that_are_shown_and_their_types(
    collector: MockCollector, route: str, where: list[Any], schema: str
) -> None:
    shown = get(collector.control_url + route)
    for step in where:
        shown = shown[step]

    properties = DOCUMENT["components"]["schemas"][schema]["properties"]

    assert shown.keys() == properties.keys()
    assert [key for key, value in shown.items() if not is_of(value, properties[key])] == []


def is_of(value: Any, schema: dict[str, Any]) -> bool:
    kinds = {
        str: "string",
        bool: "boolean",
        int: "integer",
        float: "number",
        list: "array",
        dict: "object",
        type(None): "null",
    }
    allowed = schema.get("type", [])
    allowed = [allowed] if isinstance(allowed, str) else allowed
    kind = kinds[type(value)]
    return not allowed or kind in allowed or (kind == "integer" and "number" in allowed)
