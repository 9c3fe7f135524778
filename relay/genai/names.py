"""The one table of names: what is shown of a call, and which attributes tell it.

The first name that tells anything wins, left to right: the newest GenAI conventions of
OpenTelemetry, their older and deprecated names, OpenRouter Broadcast, OpenInference, OpenLLMetry
and the AI SDK, then the bare names of coding agents' records. docs/genai.md shows it to people.
"""

from collections.abc import Mapping
from typing import Final

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "operation": (
        "gen_ai.operation.name",
        "openinference.span.kind",
        "traceloop.span.kind",
        "llm.request.type",
        "ai.operationId",
    ),
    "provider": (
        "gen_ai.provider.name",
        "gen_ai.system",
        "llm.provider",
        "llm.system",
        "ai.model.provider",
        "provider_name",
    ),
    "host": ("trace.metadata.openrouter.provider_name",),
    "model_asked": (
        "gen_ai.request.model",
        "llm.request.model_name",
        "llm.model_name",
        "embedding.model_name",
        "ai.model.id",
        "model",
        "cursor.model.name",
    ),
    "model_answered": (
        "gen_ai.response.model",
        "llm.response.model_name",
        "ai.response.model",
    ),
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "total_tokens": (
        "gen_ai.usage.total_tokens",
        "llm.token_count.total",
        "llm.usage.total_tokens",
        "ai.usage.totalTokens",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "llm.token_count.prompt_details.cache_read",
        "gen_ai.usage.cache_read_input_tokens",
        "ai.usage.cachedInputTokens",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
        "llm.token_count.prompt_details.cache_write",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "llm.token_count.completion_details.reasoning",
        "gen_ai.usage.reasoning_tokens",
        "ai.usage.reasoningTokens",
    ),
    "cost_usd": (
        "gen_ai.usage.total_cost",
        "litellm.cost.total",
        "operation.cost",
        "gen_ai.usage.cost",
        "llm.cost.total",
        "cost_usd",
    ),
    "cost_micro_usd": ("cost_usd_micros",),
    "input_cost_usd": ("gen_ai.usage.input_cost", "llm.cost.prompt"),
    "output_cost_usd": ("gen_ai.usage.output_cost", "llm.cost.completion"),
    "first_token_s": ("gen_ai.response.time_to_first_chunk",),
    "first_token_ms": (
        "trace.metadata.openrouter.first_token_ms",
        "ai.response.msToFirstChunk",
        "ttft_ms",
        "copilot_chat.time_to_first_token",
    ),
    "latency_ms": ("duration_ms",),
    "finish": (
        "gen_ai.response.finish_reasons",
        "gen_ai.response.finish_reason",
        "llm.finish_reason",
        "ai.response.finishReason",
        "finish_reasons",
        "stop_reason",
    ),
    "error": (
        "error.type",
        "exception.type",
        "error_type",
        "error.message",
        "error",
        "span.status_message",
    ),
    "response_id": ("gen_ai.response.id", "ai.response.id", "request_id"),
    "session": (
        "gen_ai.conversation.id",
        "session.id",
        "conversation.id",
        "cursor.conversation.id",
        "ai.telemetry.metadata.sessionId",
        "traceloop.association.properties.session_id",
        "langfuse.session.id",
    ),
    "user": (
        "user.id",
        "enduser.id",
        "cursor.user.id",
        "litellm.end_user.id",
        "ai.telemetry.metadata.userId",
        "traceloop.association.properties.user_id",
        "langfuse.user.id",
    ),
    "agent": (
        "gen_ai.agent.name",
        "gen_ai.workflow.name",
        "traceloop.workflow.name",
        "traceloop.entity.name",
        "ai.telemetry.functionId",
    ),
    "tool": (
        "gen_ai.tool.name",
        "tool.name",
        "ai.toolCall.name",
        "tool_name",
        "function_name",
        "traceloop.entity.name",
    ),
    "tool_call_id": ("gen_ai.tool.call.id", "ai.toolCall.id", "tool_use_id", "call_id"),
    "tool_arguments": (
        "gen_ai.tool.call.arguments",
        "tool.parameters",
        "ai.toolCall.args",
        "input.value",
        "traceloop.entity.input",
        "arguments",
    ),
    "tool_result": (
        "gen_ai.tool.call.result",
        "ai.toolCall.result",
        "output.value",
        "traceloop.entity.output",
        "output",
    ),
    "tools": ("gen_ai.tool.definitions", "ai.prompt.tools"),
    "system": ("gen_ai.system_instructions",),
    "prompt": (
        "gen_ai.input.messages",
        "gen_ai.prompt",
        "ai.prompt.messages",
        "ai.prompt",
        "llm.prompts",
        "input.value",
        "traceloop.entity.input",
        "span.input",
    ),
    "completion": (
        "gen_ai.output.messages",
        "gen_ai.completion",
        "output.value",
        "traceloop.entity.output",
        "span.output",
    ),
}

# Lists that are spelled out in flat keys, `PREFIX.0.message.role`; they go before the names above
# but the newest.
FLAT: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": ("llm.input_messages", "gen_ai.prompt"),
    "completion": ("llm.output_messages", "gen_ai.completion", "llm.choices"),
    "tools": ("llm.tools", "gen_ai.tool.definitions", "llm.request.functions"),
}

PERSONAL: Final = frozenset(
    {
        "user.email",
        "user.account_uuid",
        "user.account_id",
        "organization.id",
        "process.owner",
        "process.command_args",
        "process.command_line",
        "process.command",
        "cursor.user.email",
        "trace.metadata.openrouter.creator_user_id",
        "trace.metadata.openrouter.api_key_name",
    }
)
"""Attributes that say who somebody is: their names are shown, their values when asked for."""

SPAN_KEYS: Final = ("gen_ai.", "llm.", "openinference.", "traceloop.", "ai.operationId")
"""Beginnings of keys of which one stands in every span of GenAI, but for those of Claude Code."""

MARKS: Final = (*SPAN_KEYS, "claude_code", "codex.", "gemini_cli", "cursor.", "copilot")
"""Of these one stands in every item that can be read here, as a key or in a name."""
