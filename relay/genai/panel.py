"""What a page shows of one call, as a document for JSON: bounded, whatever was sent."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from relay.genai.call import Call, call_of, name_of, shown_user
from relay.genai.contents import Contents, Told, contents_of
from relay.genai.items import SpanItem, logs_of, spans_of
from relay.genai.kinds import kind_of
from relay.genai.names import NAMES, PERSONAL
from relay.genai.parts import Message, Part, messages_of
from relay.genai.senders import content_switch
from relay.genai.values import first
from relay.model.records import Encoding, Signal
from relay.otlp.signals import WIRE
from relay.otlp.transcode import decode_entries

PART_CHARACTERS: Final = 4_000
PANEL_CHARACTERS: Final = 40_000
MOST_MESSAGES: Final = 100
MOST_PARTS: Final = 300
MOST_TOOLS: Final = 100
_URL_CHARACTERS: Final = 300
NO_COST: Final = "no cost sent"


@dataclass(frozen=True, slots=True)
class TraceItems:
    """A trace that was read: its spans by their ids, and their log records."""

    spans: Mapping[str, SpanItem]
    records: Mapping[str, Sequence[Told]]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "TraceItems":
        """Of a document that has `resourceSpans` and perhaps `resourceLogs`, in the relay's own
        normal form, as `/api/traces/ID` has them. Raises what msgspec does for another.
        """
        spans = spans_of(_entries(document, Signal.TRACES))
        records: defaultdict[str, list[Told]] = defaultdict(list)
        for item in logs_of(_entries(document, Signal.LOGS)):
            records[item.record.spanId].append(item.told())
        return cls({item.span.spanId: item for item in spans}, records)

    def panel(self, span_id: str, *, show_personal: bool = False) -> dict[str, Any] | None:
        """As `panel_of`; None, too, for a span that is not here."""
        item = self.spans.get(span_id)
        records = self.records.get(span_id, ())
        return panel_of(item, records, show_personal=show_personal) if item else None

    def part(self, span_id: str, side: str, message: int, part: int) -> str | None:
        """As `part_of`; None, too, for a span that is not here."""
        item = self.spans.get(span_id)
        return part_of(item, self.records.get(span_id, ()), side, message, part) if item else None


def _entries(document: Mapping[str, Any], signal: Signal) -> list[Any]:
    found = document.get(WIRE[signal].lists[Encoding.JSON].entries, [])
    return decode_entries(msgspec.json.encode(found)[1:-1], signal)


@dataclass(slots=True)
class _Room:
    """Characters and parts that are left for contents."""

    characters: int = PANEL_CHARACTERS
    parts: int = MOST_PARTS

    def some(self, parts: list[Part]) -> list[Part]:
        """As many parts as there is room for."""
        shown = parts[: self.parts]
        self.parts -= len(shown)
        return shown

    def cut(self, text: str) -> dict[str, Any]:
        """As much of a text as there is room for, and how long the whole is."""
        shown = text[: min(PART_CHARACTERS, self.characters)]
        self.characters -= len(shown)
        return {
            "text": shown,
            "characters": len(text),
            "bytes": len(text.encode(errors="replace")),
            "is_cut": len(shown) < len(text),
        }


def panel_of(
    item: SpanItem, records: Sequence[Told] = (), *, show_personal: bool = False
) -> dict[str, Any] | None:
    """The panel of a span; None for one that is nothing of GenAI. `records` are its log records.

    A text longer than PART_CHARACTERS is cut, all of them to PANEL_CHARACTERS, and messages in the
    middle are left out beyond MOST_MESSAGES; `part_of` gives a part whole. Media are named, never
    given. Never raises.
    """
    kind = kind_of(item)
    if kind is None:
        return None
    call = call_of(item.attributes, latency_ms=item.latency_ms, adds=kind.adds)
    contents = contents_at(item, records)
    room = _Room()
    is_silent = kind.kind == "call" and not (contents.prompt or contents.completion)
    return {
        "kind": kind.kind,
        "sender": item.sender,
        **call_document(call),
        "user": shown_user(call.user, show_personal=show_personal),
        "error": _error(item, call),
        "tool": name_of(item.attributes, "tool") if kind.kind == "tool" else "",
        "tools_offered": contents.tools[:MOST_TOOLS],
        # What was answered first: it must not be what there is no room for.
        "completion": _messages(contents.completion, room),
        "prompt": _messages(contents.prompt, room),
        "no_contents": _no_contents(item) if is_silent else "",
        "personal": _personal(item, show_personal=show_personal),
    }


def contents_at(item: SpanItem, records: Sequence[Told] = ()) -> Contents:
    """All that was said in a call; of a tool what it was given and what it gave."""
    kind = kind_of(item)
    if kind is None or kind.kind != "tool":
        return contents_of(item.attributes, (*item.told(), *records))
    name, call_id = (name_of(item.attributes, each) for each in ("tool", "tool_call_id"))
    given, got = (first(item.attributes, NAMES[each]) for each in ("tool_arguments", "tool_result"))
    return Contents(
        _tool_message({"type": "tool_call", "name": name, "id": call_id, "arguments": given}),
        _tool_message({"type": "tool_result", "name": name, "id": call_id, "result": got}),
    )


def _tool_message(part: dict[str, Any]) -> list[Message]:
    is_told = part.get("arguments", part.get("result")) is not None
    return messages_of([part], "tool") if is_told else []


def part_of(
    item: SpanItem, records: Sequence[Told], side: str, message: int, part: int
) -> str | None:
    """The whole text of a part that a panel cut; None where there is none of those numbers.

    `side` is "prompt" or "completion", the numbers are those that the panel gives.
    """
    found: list[Message] = getattr(contents_at(item, records), side, [])
    if not (0 <= message < len(found) and 0 <= part < len(found[message].parts)):
        return None
    return found[message].parts[part].text


def call_document(call: Call) -> dict[str, Any]:
    """The figures of a call; None is what nobody told."""
    figures = ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens")
    more = ("cache_write_tokens", "reasoning_tokens", "cost_usd", "input_cost_usd")
    rest = ("output_cost_usd", "latency_ms", "first_token_ms")
    names = ("operation", "provider", "host", "model", "model_asked", "model_answered")
    ids = ("response_id", "session", "agent")
    return {
        **{each: getattr(call, each) for each in (*names, *figures, *more, *rest, *ids)},
        "cost_note": NO_COST if call.cost_usd is None else "as the sender says",
        "finish": list(call.finish),
    }


def _error(item: SpanItem, call: Call) -> str:
    if not item.has_failed and not call.error:
        return ""
    words = item.error_words[:PART_CHARACTERS]
    return ": ".join(dict.fromkeys(each for each in (call.error, words) if each)) or "failed"


def _no_contents(item: SpanItem) -> str:
    return f"the sender recorded no contents; who can switch them on: {content_switch(item.sender)}"


def _personal(item: SpanItem, *, show_personal: bool) -> dict[str, str]:
    """Attributes that tell who somebody is, their values empty unless asked for."""
    both = {**item.around.resource, **item.attributes}
    return {
        key: str(both[key])[:_URL_CHARACTERS] if show_personal else ""
        for key in sorted(PERSONAL & both.keys())
    }


def _messages(messages: list[Message], room: _Room) -> list[dict[str, Any]]:
    """Messages with their numbers; the last ones are worth most, the first sets the scene."""
    numbered = list(enumerate(messages))
    if len(numbered) > MOST_MESSAGES:
        numbered = [numbered[0], *numbered[1 - MOST_MESSAGES :]]
    return [
        {
            "number": number,
            "role": message.role[:_URL_CHARACTERS],
            "parts": [_part(part, room) for part in room.some(message.parts)],
            "all_parts": len(message.parts),
        }
        for number, message in numbered
    ]


def _part(part: Part, room: _Room) -> dict[str, Any]:
    """One part; only what its kind has."""
    if part.kind == "media":
        return {
            "kind": part.kind,
            "media_type": part.media_type[:_URL_CHARACTERS],
            "bytes": part.size,
            "url": part.url[:_URL_CHARACTERS],
        }
    found = {"kind": part.kind, **room.cut(part.text)}
    if part.kind in ("tool_call", "tool_result"):
        found |= {"name": part.name[:_URL_CHARACTERS], "call_id": part.call_id[:_URL_CHARACTERS]}
    return found
