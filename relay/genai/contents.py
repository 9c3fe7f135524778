"""What was said in a call: prompt and completion, wherever a sender put them.

The newest place that has any wins: attributes of the GenAI conventions, flat keys, older
attributes, then the events of the conventions up to 1.36, in the span or as log records.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from relay.genai.names import FLAT, NAMES
from relay.genai.parts import Message, Part, messages_of
from relay.genai.values import Attributes, first, nested, parsed, text_of, texts_of

DETAILS: Final = "gen_ai.client.inference.operation.details"
_CHOICE: Final = "gen_ai.choice"
_ROLES: Final = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_ROLE: Final = {"prompt": "user", "completion": "assistant"}


class Told(NamedTuple):
    """An event of a span, or a log record that belongs to it."""

    name: str
    attributes: Attributes
    body: Any = None


@dataclass(slots=True)
class Contents:
    """Both sides of a call, uncut, and the tools that were offered by name."""

    prompt: list[Message] = field(default_factory=list)
    completion: list[Message] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)


def contents_of(attributes: Attributes, told: Sequence[Told] = ()) -> Contents:
    """What was said in the call that `attributes` are of. Never raises."""
    # The event of 1.37 holds the very attributes that the span may have instead.
    for each in told:
        if each.name == DETAILS:
            attributes = {**each.attributes, **attributes}
    prompt = _side(attributes, told, "prompt")
    system = messages_of(first(attributes, NAMES["system"]), "system")
    return Contents(
        system + prompt,
        _side(attributes, told, "completion") or _ai_sdk(attributes),
        _tools(attributes),
    )


def _side(attributes: Attributes, told: Sequence[Told], side: str) -> list[Message]:
    role = _ROLE[side]
    newest, *older = NAMES[side]
    found = messages_of(attributes.get(newest), role)
    for prefix in FLAT[side]:
        found = found or messages_of(nested(attributes, prefix), role)
    return found or _of_events(told, side) or messages_of(first(attributes, older), role)


def _of_events(told: Sequence[Told], side: str) -> list[Message]:
    found: list[Message] = []
    for each in told:
        if side == "prompt" and each.name in _ROLES:
            found += messages_of({"role": _ROLES[each.name]} | _content(each), "user")
        elif side == "completion" and each.name == _CHOICE:
            found += messages_of(_content(each), "assistant")
        elif each.name == f"gen_ai.content.{side}":
            found += messages_of(each.attributes.get(f"gen_ai.{side}"), _ROLE[side])
    return found


def _content(told: Told) -> dict[str, Any]:
    """What an event says of a message: its body, or attributes in its stead."""
    found = parsed(told.body)
    if not isinstance(found, dict):
        found = parsed(told.attributes.get("gen_ai.event.content"))
    if not isinstance(found, dict):
        kept = ("role", "content", "tool_calls", "message", "id", "tool_call_id")
        found = {key: parsed(told.attributes.get(key)) for key in kept}
    return {key: value for key, value in found.items() if value is not None}


def _ai_sdk(attributes: Attributes) -> list[Message]:
    """The completion as the AI SDK spreads it over attributes of its own."""
    parts = []
    if reasoning := text_of(attributes.get("ai.response.reasoning")):
        parts.append(Part("reasoning", reasoning))
    if text := text_of(first(attributes, ("ai.response.text", "ai.response.object"))):
        parts.append(Part("text", text))
    calls = parsed(attributes.get("ai.response.toolCalls"))
    for message in messages_of({"tool_calls": calls}, "assistant") if calls else ():
        parts += message.parts
    return [Message("assistant", parts)] if parts else []


def _tools(attributes: Attributes) -> list[str]:
    """Names of the tools that the model was offered."""
    found: Any = parsed(first(attributes, NAMES["tools"]))
    for prefix in FLAT["tools"]:
        found = found or nested(attributes, prefix)
    names = []
    for each in found if isinstance(found, list) else ():
        tool = parsed(each)
        for key in ("tool", "json_schema", "function"):
            inner = parsed(tool.get(key)) if isinstance(tool, dict) else None
            tool = inner if isinstance(inner, dict) else tool
        name = tool.get("name") if isinstance(tool, dict) else None
        names += texts_of(name)[:1]
    return names
