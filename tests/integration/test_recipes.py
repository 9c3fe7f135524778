"""The recipes of docs/processing.md, as they stand there, with mock collectors in their places."""

import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from mockcollector.server import MockCollector
from tests.support.builders import protobuf_twin, request, span, text_attribute
from tests.support.relay_process import Relay, eventually

DOCUMENT = Path(__file__).parents[2] / "docs" / "processing.md"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
Json = dict[str, Any]
Seen = dict[str, list[Json]]


def recipes() -> dict[str, str]:
    """The TOML of each recipe, by its title."""
    section = DOCUMENT.read_text().split("\n## Recipes\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"### ([^\n]+)\n+```toml\n(.*?)```", section, re.DOTALL))


@contextmanager
def cooked(title: str, folder: Path) -> Iterator[tuple[Relay, dict[str, MockCollector]]]:
    """A relay that runs the recipe, and what stands in the place of each destination."""
    document = tomllib.loads(recipes()[title])
    with ExitStack() as stack:
        collectors = {
            name: stack.enter_context(MockCollector()) for name in document["destinations"]
        }
        for name, collector in collectors.items():
            document["destinations"][name]["endpoint"] = collector.endpoint
        relay = stack.enter_context(Relay(folder, settings=tomli_w.dumps(document)))
        yield relay, collectors


def spans_at(collectors: dict[str, MockCollector]) -> Seen:
    return {
        name: [
            {"name": each.name, **each.resource.attributes, **each.attributes}
            for each in sorted(collector.journal.spans(), key=lambda it: it.name)
        ]
        for name, collector in collectors.items()
    }


def post(relay: Relay, *spans: Json, **more: Any) -> None:
    made = request(*spans, **more)
    assert relay.post(made)[0] == 200
    twin = protobuf_twin(made).SerializeToString()
    assert relay.post(twin, headers=PROTOBUF)[0] == 200


def names(seen: Seen) -> dict[str, list[str]]:
    """Each name once: everything is sent in both encodings."""
    assert all(found[::2] == found[1::2] for found in seen.values())
    return {at: [each["name"] for each in found[::2]] for at, found in seen.items()}


def send_prompts(relay: Relay) -> None:
    attributes = [
        text_attribute("gen_ai.prompt", "a secret plan"),
        text_attribute("gen_ai.input.messages", "[a secret plan]"),
        text_attribute("gen_ai.request.model", "small"),
        text_attribute("note", "ask ada@example.org, key sk-abcdefghijklmnopqrstuv"),
    ]
    post(relay, span(name="chat", attributes=attributes))


def check_prompts(seen: Seen) -> None:
    assert seen["langfuse"][0]["gen_ai.prompt"] == "a secret plan"
    (there, _) = seen["honeycomb"]
    assert "secret plan" not in str(there)
    assert there["gen_ai.request.model"] == "small"
    assert there["note"] == "ask [redacted], key [redacted]"


def send_health_checks(relay: Relay) -> None:
    for route in ("/healthz", "/buy", "/readyz"):
        post(relay, span(name=route, attributes=[text_attribute("http.route", route)]))
    post(relay, span(name="inside"))


def check_health_checks(seen: Seen) -> None:
    assert names(seen) == {"all": ["/buy", "inside"]}


def send_services(relay: Relay) -> None:
    for service in ("shop-cart", "shop-till", "bank", "mail"):
        post(relay, span(name=service), service=service)


def check_services(seen: Seen) -> None:
    assert names(seen) == {"shop": ["shop-cart", "shop-till"], "bank": ["bank"], "rest": ["mail"]}


def send_for_a_vendor(relay: Relay) -> None:
    attributes = [
        text_attribute("debug.trace", "x"),
        text_attribute("http.request.method", "GET"),
    ]
    post(relay, span(name="a", attributes=attributes))


def check_vendor(seen: Seen) -> None:
    (there, _) = seen["vendor"]
    assert there["http.method"] == "GET"
    assert there["team"] == "shop"
    assert not {"debug.trace", "http.request.method"} & there.keys()


CASES: dict[str, tuple[Callable[[Relay], None], Callable[[Seen], None]]] = {
    "Keep prompts in Langfuse and out of Honeycomb": (send_prompts, check_prompts),
    "Drop health checks": (send_health_checks, check_health_checks),
    "Route by service": (send_services, check_services),
    "Rename for a vendor": (send_for_a_vendor, check_vendor),
}


def test_each_recipe_is_run() -> None:
    assert CASES.keys() == recipes().keys()


@pytest.mark.parametrize("title", CASES)
def test_recipe_does_what_it_says(title: str, tmp_path: Path) -> None:
    send, check = CASES[title]
    with cooked(title, tmp_path) as (relay, collectors):
        send(relay)
        eventually(lambda: not any(map(relay.owed, collectors)))
        seen = spans_at(collectors)

    check(seen)
