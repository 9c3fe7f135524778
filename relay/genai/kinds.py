"""What a span is: a call of a model, a use of a tool, or what only stands around those."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from relay.genai.call import name_of
from relay.genai.items import SpanItem
from relay.genai.names import SPAN_KEYS

Adds = Mapping[str, tuple[str, ...]]

# What adds to which count, where the names are bare. The whole prompt is the sum of three fields.
CLAUDE: Final[Adds] = {
    "input_tokens": ("input_tokens",),
    "cache_read_tokens": ("input_tokens", "cache_read_tokens"),
    "cache_creation_tokens": ("input_tokens", "cache_write_tokens"),
    "output_tokens": ("output_tokens",),
}
# `tool_token_count` is the total of a request: it belongs to nothing.
CODEX: Final[Adds] = {
    "input_token_count": ("input_tokens",),
    "cached_token_count": ("cache_read_tokens",),
    "cache_write_token_count": ("cache_write_tokens",),
    "output_token_count": ("output_tokens",),
    "reasoning_token_count": ("reasoning_tokens",),
}
# Its output leaves out what was thought, its input the prompts of tools.
GEMINI: Final[Adds] = {
    "input_token_count": ("input_tokens",),
    "tool_token_count": ("input_tokens",),
    "cached_content_token_count": ("cache_read_tokens",),
    "output_token_count": ("output_tokens",),
    "thoughts_token_count": ("output_tokens", "reasoning_tokens"),
}
_CALLS: Final = frozenset(
    {
        "chat",
        "text_completion",
        "generate_content",
        "embeddings",
        "completion",
        "embedding",
        "llm",
        "llm_call",
    }
)
_TOOLS: Final = frozenset({"execute_tool", "tool", "tool_call", "ai.toolcall"})
CLAUDE_NAMES: Final = "claude_code."
_CLAUDE_KINDS: Final = {
    "claude_code.llm_request": "call",
    "claude_code.tool": "tool",
    "claude_code.tool.execution": "outcome",
    "claude_code.interaction": "prompt",
}


class SpanKind(NamedTuple):
    """`kind`: "call", "tool", "prompt" (of a person), "outcome" (of the tool around it), or "step",
    which only stands around those and may repeat what they tell.
    """

    kind: Literal["call", "tool", "prompt", "outcome", "step"]
    adds: Adds | None = None


_CALL: Final = SpanKind("call")
_TOOL: Final = SpanKind("tool")
_STEP: Final = SpanKind("step")


def kind_of(item: SpanItem) -> SpanKind | None:
    """What a span is; None for one that is nothing of GenAI."""
    name, attributes = item.span.name, item.attributes
    if attributes.get("logfire.span_type") == "pending_span":
        return None  # the double of one that goes on
    if name.startswith(CLAUDE_NAMES):
        kind = _CLAUDE_KINDS.get(name)
        return SpanKind(kind, CLAUDE) if kind else _STEP  # type: ignore[arg-type]
    if not any(key.startswith(SPAN_KEYS) for key in attributes):
        return None
    if item.sender == "openrouter":
        # Attempts and the like below it say "chat", too.
        return _CALL if attributes.get("span.type") == "generation" else _STEP
    return _by_operation(item)


def _by_operation(item: SpanItem) -> SpanKind:
    operation = name_of(item.attributes, "operation").lower()
    if operation in _CALLS or operation.endswith((".dogenerate", ".dostream", ".doembed")):
        return _CALL
    if operation in _TOOLS:
        return _TOOL
    # Before there was a name for the operation, whatever named a model and its usage was a call.
    has_usage = any(key.startswith("gen_ai.usage.") for key in item.attributes)
    return _CALL if not operation and has_usage else _STEP
