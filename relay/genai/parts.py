"""The one model of messages: a role and parts, out of every shape in which senders write them.

Read are the parts of the GenAI conventions, messages as OpenAI, Anthropic, Gemini, OpenInference
and the AI SDK shape them, and plain text. What has another shape is shown as its JSON.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

from relay.genai.values import json_text, parsed, text_of

Kind = Literal["text", "reasoning", "tool_call", "tool_result", "media", "unknown"]

MOST_PARTS: Final = 10_000
# Messages in messages, and lists in lists: nobody nests deeper who means it.
_DEEPEST: Final = 6
_DATA: Final = "data:"
_TEXTS: Final = frozenset({"text", "input_text", "output_text", "refusal"})
_REASONING: Final = frozenset({"reasoning", "thinking", "redacted_thinking"})
_TOOL_CALLS: Final = frozenset(
    {"tool_call", "tool_use", "tool-call", "function_call", "server_tool_call", "server_tool_use"}
)
_TOOL_RESULTS: Final = frozenset(
    {
        "tool_call_response",
        "tool_result",
        "tool-result",
        "function_call_output",
        "server_tool_call_response",
    }
)
_MEDIA: Final = frozenset(
    {"blob", "uri", "file", "image", "image_url", "input_image", "input_audio", "audio", "document"}
)
_MEDIA_HOLDERS: Final = (
    "inlineData",
    "inline_data",
    "source",
    "image_url",
    "input_audio",
    "file",
    "image",
)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message. `text` is what it says, of a tool call its arguments, of a result the
    result; `name` and `call_id` are those of a tool.

    Of media there is no text: `media_type` and the `size` in bytes as far as they are told, and
    `url` where it lies elsewhere.
    """

    kind: Kind
    text: str = ""
    name: str = ""
    call_id: str = ""
    media_type: str = ""
    size: int | None = None
    url: str = ""


@dataclass(slots=True)
class Message:
    """What one side said: "system", "user", "assistant", "tool" or as the sender calls it."""

    role: str
    parts: list[Part] = field(default_factory=list)


def messages_of(value: Any, role: str) -> list[Message]:
    """The messages that a value holds; `role` where it names none. Never raises.

    Of more than MOST_PARTS parts the rest is left out, and a last one says so.
    """
    found: list[Message] = []
    count = 0
    for message in _messages(parsed(value), role, 0):
        if message.parts:
            found.append(message)
            count += len(message.parts)
        if count >= MOST_PARTS:
            found.append(Message(role, [Part("unknown", f"more than {MOST_PARTS:,} parts")]))
            break
    return found


def _messages(value: Any, role: str, depth: int) -> Iterator[Message]:
    if depth > _DEEPEST:
        yield Message(role, [_unknown(value)])
    elif isinstance(value, list):
        yield from _of_list(value, role, depth)
    elif not isinstance(value, dict):
        yield Message(role, list(_parts(value, depth)))
    elif isinstance(value.get("message"), dict):  # a choice, or OpenInference's flat keys
        yield from _messages({**value, **value["message"], "message": None}, role, depth + 1)
    elif isinstance(value.get("messages"), list):
        if value.get("system"):
            yield Message("system", list(_parts(parsed_list(value["system"]), depth)))
        yield from _of_list(value["messages"], role, depth)
    elif isinstance(value.get("choices"), list):
        yield from _of_list(value["choices"], role, depth)
    else:
        own = value.get("role")
        yield Message(
            _role(own) if isinstance(own, str) and own else role, _of_message(value, depth)
        )


def _of_list(values: list[Any], role: str, depth: int) -> Iterator[Message]:
    """A list of messages, or the parts of one."""
    if values and all(_is_part(each) for each in values):
        yield Message(role, [part for each in values for part in _parts(each, depth + 1)])
        return
    for each in values:
        yield from _messages(each, role, depth + 1)


def _is_part(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, dict) and "type" in value and "role" not in value
    )


def _role(role: str) -> str:
    """The conventions' word for it."""
    return {"human": "user", "ai": "assistant", "model": "assistant"}.get(role.lower(), role)


def _of_message(message: dict[str, Any], depth: int) -> list[Part]:
    if isinstance(message.get("type"), str) and "role" not in message:
        return list(_parts(message, depth + 1))
    parts: list[Part] = []
    known = False
    for key in ("reasoning", "reasoning_content", "thinking"):
        if isinstance(message.get(key), str) and message[key]:
            parts.append(Part("reasoning", message[key]))
            break
    call_id = text_of(message.get("tool_call_id") or message.get("id"))
    is_result = message.get("role") == "tool"
    for key in ("content", "contents", "parts", "completion", "text", "prompt"):
        if message.get(key) not in (None, ""):
            known = True
            found = list(islice(_parts(parsed_list(message[key]), depth + 1), MOST_PARTS))
            if is_result and all(each.kind == "text" for each in found):
                text = "\n".join(each.text for each in found)
                found = [Part("tool_result", text, text_of(message.get("name")), call_id)]
            parts += found
            break
    for key in ("tool_calls", "toolCalls"):
        calls = parsed(message.get(key))
        for each in calls if isinstance(calls, list) else ():
            parts.append(_tool_call(each, depth))
    if not parts and not known and not _says_nothing(message):
        parts.append(_unknown(message))
    return parts


def _says_nothing(message: dict[str, Any]) -> bool:
    """Whether there is a role, or where a content would be, and nothing else."""
    empty = {"role", "content", "completion", "reasoning", "finish_reason", "index", "message"}
    return all(key in empty or value in (None, "", [], {}) for key, value in message.items())


def parsed_list(value: Any) -> Any:
    """A list of parts that came as JSON text; any other text as it is, since somebody said that."""
    found = parsed(value)
    is_parts = isinstance(found, list) and found and all(_is_typed(each) for each in found)
    return found if is_parts or not isinstance(value, str) else value


def _is_typed(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _parts(value: Any, depth: int) -> Iterator[Part]:
    if value is None or value == "":
        return
    if depth > 2 * _DEEPEST:
        yield _unknown(value)
    elif isinstance(value, str):
        yield _media_of_url(value, "") if _is_data(value) else Part("text", value)
    elif isinstance(value, list):
        for each in value:
            yield from _parts(each, depth + 1)
    elif isinstance(value, dict):
        inner = value.get("message_content")  # OpenInference
        yield from _parts(inner, depth + 1) if isinstance(inner, dict) else (_part(value, depth),)
    else:
        yield Part("text", text_of(value))


def _part(value: dict[str, Any], depth: int) -> Part:
    kind = str(value.get("type", ""))
    if kind in _TOOL_CALLS or "functionCall" in value or "function_call" in value:
        return _tool_call(value, depth)
    if kind in _TOOL_RESULTS or "functionResponse" in value or "function_response" in value:
        return _tool_result(value)
    if kind in _MEDIA or "inlineData" in value or "inline_data" in value:
        return _media(value)
    text = next((each for each in _texts(value) if isinstance(each, str)), None)
    if text is not None and (kind in _REASONING or value.get("thought") is True):
        return Part("reasoning", text)
    if text is not None and (kind in _TEXTS or not kind):
        return _media_of_url(text, "") if _is_data(text) else Part("text", text)
    return _unknown(value)


def _texts(value: dict[str, Any]) -> Iterable[Any]:
    return (value.get(key) for key in ("text", "content", "thinking", "reasoning", "refusal"))


def _unknown(value: Any) -> Part:
    return Part("unknown", json_text(value))


def _first(value: dict[str, Any], *keys: str) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)


def _tool_call(value: Any, depth: int) -> Part:
    if not isinstance(value, dict) or depth > 2 * _DEEPEST:
        return _unknown(value)
    for key in ("tool_call", "function", "functionCall", "function_call", "server_tool_call"):
        inner = value.get(key)
        if isinstance(inner, dict):
            outer = {each: value[each] for each in ("id", "name") if each in value}
            return _tool_call({**outer, **inner}, depth + 1)
    name = text_of(_first(value, "name", "toolName", "tool_name"))
    call_id = text_of(_first(value, "id", "toolCallId", "call_id", "tool_call_id"))
    arguments = _first(value, "arguments", "input", "args")
    return Part("tool_call", _compact(arguments), name, call_id)


def _tool_result(value: dict[str, Any]) -> Part:
    inner = _first(value, "functionResponse", "function_response", "server_tool_call_response")
    if isinstance(inner, dict):
        value = {**value, **inner}
    name = text_of(_first(value, "name", "toolName"))
    call_id = text_of(_first(value, "id", "tool_use_id", "toolCallId", "call_id", "tool_call_id"))
    result = _first(value, "response", "result", "output", "content")
    return Part("tool_result", _compact(result), name, call_id)


def _compact(value: Any) -> str:
    """Arguments and results as the same JSON text, whether they came as a text or as an object."""
    return text_of(parsed(value))


def _media(value: dict[str, Any]) -> Part:
    """What is no text, by its type and size; its bytes are never shown."""
    for _level in range(3):  # OpenInference has an image in an image
        for key in _MEDIA_HOLDERS:
            inner = value.get(key)
            if inner is not None:
                value = {
                    **value,
                    key: None,
                    **(inner if isinstance(inner, dict) else {"url": inner}),
                }
    keys = ("mime_type", "mimeType", "media_type", "mediaType", "format", "modality", "type")
    type_of = text_of(_first(value, *keys))
    found = _first(value, "url", "uri", "data", "content", "file_data", "file_id")
    is_inline = _first(value, "url", "uri") is None and value.get("file_id") is None
    if not isinstance(found, str):
        return Part("media", media_type=type_of)
    if is_inline and not _is_data(found):
        return Part("media", media_type=type_of, size=_decoded_size(found))
    return _media_of_url(found, type_of)


def _is_data(text: str) -> bool:
    """Whether a text is a data URL: then it is media, however it was sent."""
    return text[:5].lower() == _DATA and "," in text[:200]


def _media_of_url(url: str, type_of: str) -> Part:
    if not _is_data(url):
        is_encoded = len(url) > 1000 and "://" not in url[:20]  # base64 where a URL was expected
        if is_encoded:
            return Part("media", media_type=type_of, size=_decoded_size(url))
        return Part("media", media_type=type_of, url=url)
    head, _, data = url.partition(",")
    own = head[len(_DATA) :].partition(";")[0]
    size = _decoded_size(data) if ";base64" in head.lower() else len(data)
    return Part("media", media_type=own or type_of, size=size)


def _decoded_size(data: str) -> int:
    """How many bytes base64 stands for."""
    return len(data) * 3 // 4 - (data[-2:].count("=") if data else 0)
