"""The same call in six dialects is the same panel: figures, prompt, completion, tool call."""

import json
from typing import Any

import pytest

from tests.support.builders import SPAN_ID, TRACE_ID, Json
from tests.unit.genai.making import any_value, attributes, panel_in

PROMPT = "Name a prime above 90."
ANSWER = "97"
ARGUMENTS = {"city": "Graz", "days": 2}
SPOKEN = json.dumps(ARGUMENTS, separators=(", ", ": "))

PARTS_IN = [
    {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
    {"role": "user", "parts": [{"type": "text", "content": PROMPT}]},
]
PARTS_OUT = [
    {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "odd, no 7, no 13"},
            {"type": "text", "content": ANSWER},
            {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": ARGUMENTS},
        ],
        "finish_reason": "stop",
    }
]
OPENAI_IN = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
FUNCTION = {"name": "weather", "arguments": SPOKEN}
OPENAI_OUT = {
    "role": "assistant",
    "reasoning": "odd, no 7, no 13",
    "content": ANSWER,
    "tool_calls": [{"id": "call_1", "type": "function", "function": FUNCTION}],
}
USAGE = {
    "gen_ai.request.model": "tiny",
    "gen_ai.response.model": "tiny-1",
    "gen_ai.usage.input_tokens": 21,
    "gen_ai.usage.output_tokens": 30,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.response.id": "r-1",
}
NEWEST = USAGE | {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "example",
    "gen_ai.usage.cache_read.input_tokens": 8,
    "gen_ai.usage.reasoning.output_tokens": 12,
    "gen_ai.conversation.id": "s-1",
    "gen_ai.response.time_to_first_chunk": 0.512,
}
OLDER = USAGE | {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "example",
    "gen_ai.usage.cache_read.input_tokens": "8",
    "gen_ai.usage.reasoning.output_tokens": "12",
    "session.id": "s-1",
    "ttft_ms": "512",
}


def event(name: str, body: Any, *, as_log: bool) -> Json:
    """An event of the conventions up to 1.36: of a span, or as a log record."""
    if as_log:
        return {
            "traceId": TRACE_ID,
            "spanId": SPAN_ID,
            "eventName": name,
            "body": any_value(body),
            "attributes": attributes({"gen_ai.system": "example"}),
        }
    return {"name": name, "attributes": attributes({"gen_ai.event.content": json.dumps(body)})}


def events(*, as_log: bool) -> list[Json]:
    return [
        event("gen_ai.system.message", {"content": "Be brief."}, as_log=as_log),
        event("gen_ai.user.message", {"content": PROMPT}, as_log=as_log),
        event(
            "gen_ai.choice",
            {"index": 0, "finish_reason": "stop", "message": OPENAI_OUT},
            as_log=as_log,
        ),
    ]


def openinference() -> dict[str, Any]:
    call = "llm.output_messages.0.message"
    return {
        "openinference.span.kind": "LLM",
        "llm.provider": "example",
        "llm.model_name": "tiny",
        "llm.response.model_name": "tiny-1",
        "llm.token_count.prompt": 21,
        "llm.token_count.completion": 30,
        "llm.token_count.total": 51,
        "llm.token_count.prompt_details.cache_read": 8,
        "llm.token_count.completion_details.reasoning": 12,
        "llm.finish_reason": "stop",
        "session.id": "s-1",
        "gen_ai.response.id": "r-1",
        "ttft_ms": 512,
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.contents.0.message_content.type": "text",
        "llm.input_messages.1.message.contents.0.message_content.text": PROMPT,
        f"{call}.role": "assistant",
        f"{call}.contents.0.message_content.type": "reasoning",
        f"{call}.contents.0.message_content.text": "odd, no 7, no 13",
        f"{call}.contents.1.message_content.type": "text",
        f"{call}.contents.1.message_content.text": ANSWER,
        f"{call}.tool_calls.0.tool_call.id": "call_1",
        f"{call}.tool_calls.0.tool_call.function.name": "weather",
        f"{call}.tool_calls.0.tool_call.function.arguments": SPOKEN,
        "input.value": json.dumps({"messages": OPENAI_IN}),
        "output.value": ANSWER,
    }


def openllmetry() -> dict[str, Any]:
    return {
        "llm.request.type": "chat",
        "gen_ai.system": "example",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny-1",
        "gen_ai.usage.prompt_tokens": 21,
        "gen_ai.usage.completion_tokens": 30,
        "llm.usage.total_tokens": 51,
        "gen_ai.usage.cache_read_input_tokens": 8,
        "gen_ai.usage.reasoning_tokens": 12,
        "gen_ai.response.finish_reason": "stop",
        "gen_ai.response.id": "r-1",
        "ttft_ms": 512,
        "traceloop.association.properties.session_id": "s-1",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": PROMPT,
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.reasoning": "odd, no 7, no 13",
        "gen_ai.completion.0.content": ANSWER,
        "gen_ai.completion.0.finish_reason": "stop",
        "gen_ai.completion.0.tool_calls.0.id": "call_1",
        "gen_ai.completion.0.tool_calls.0.name": "weather",
        "gen_ai.completion.0.tool_calls.0.arguments": SPOKEN,
    }


def openrouter() -> dict[str, Any]:
    completion = {
        "completion": ANSWER,
        "reasoning": "odd, no 7, no 13",
        "toolCalls": [{"id": "call_1", "type": "function", "function": FUNCTION}],
        "rawRequest": {"model": "tiny", "stream": False},
    }
    return USAGE | {
        "span.type": "generation",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "example",
        "gen_ai.usage.total_tokens": 51,
        "gen_ai.usage.input_tokens.cached": 8,
        "gen_ai.usage.output_tokens.reasoning": 12,
        "gen_ai.response.finish_reasons": '["stop"]',
        "session.id": "s-1",
        "trace.metadata.openrouter.first_token_ms": 512.0,
        "gen_ai.prompt": json.dumps({"messages": OPENAI_IN}),
        "gen_ai.completion": json.dumps(completion),
    }


def ai_sdk() -> dict[str, Any]:
    calls = [{"toolCallId": "call_1", "toolName": "weather", "input": SPOKEN}]
    return {
        "ai.operationId": "ai.streamText.doStream",
        "ai.model.id": "tiny",
        "ai.model.provider": "example",
        "ai.response.model": "tiny-1",
        "ai.response.id": "r-1",
        "ai.usage.inputTokens": 21,
        "ai.usage.outputTokens": 30,
        "ai.usage.cachedInputTokens": 8,
        "ai.usage.reasoningTokens": 12,
        "ai.response.finishReason": "stop",
        "ai.response.msToFirstChunk": 512.0,
        "ai.telemetry.metadata.sessionId": "s-1",
        "ai.prompt.messages": json.dumps(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
            ]
        ),
        "ai.response.reasoning": "odd, no 7, no 13",
        "ai.response.text": ANSWER,
        "ai.response.toolCalls": json.dumps(calls),
    }


def older_attributes() -> dict[str, Any]:
    return OLDER | {
        "gen_ai.prompt": json.dumps(OPENAI_IN),
        "gen_ai.completion": json.dumps([OPENAI_OUT]),
    }


DIALECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "newest, structured": (
        NEWEST | {"gen_ai.input.messages": PARTS_IN, "gen_ai.output.messages": PARTS_OUT},
        {},
    ),
    "newest, as JSON text": (
        NEWEST
        | {
            "gen_ai.system_instructions": json.dumps(PARTS_IN[0]["parts"]),
            "gen_ai.input.messages": json.dumps(PARTS_IN[1:]),
            "gen_ai.output.messages": json.dumps(PARTS_OUT),
        },
        {},
    ),
    "newest, in the event of 1.37": (
        NEWEST,
        {
            "events": [
                {
                    "name": "gen_ai.client.inference.operation.details",
                    "attributes": attributes(
                        {"gen_ai.input.messages": PARTS_IN, "gen_ai.output.messages": PARTS_OUT}
                    ),
                }
            ]
        },
    ),
    "events of 1.36 in the span": (OLDER, {"events": events(as_log=False)}),
    "events of 1.36 as log records": (OLDER, {"logs": events(as_log=True)}),
    "older attributes": (older_attributes(), {}),
    "OpenRouter Broadcast": (openrouter(), {"scope": "openrouter", "service": "openrouter"}),
    "OpenInference": (openinference(), {}),
    "OpenLLMetry": (openllmetry(), {}),
    "AI SDK before 7": (ai_sdk(), {"scope": "ai"}),
}
FIGURES: dict[str, Any] = {
    "kind": "call",
    "provider": "example",
    "model": "tiny-1",
    "model_asked": "tiny",
    "model_answered": "tiny-1",
    "input_tokens": 21,
    "output_tokens": 30,
    "total_tokens": 51,
    "cache_read_tokens": 8,
    "cache_write_tokens": None,
    "reasoning_tokens": 12,
    "cost_usd": None,
    "cost_note": "no cost sent",
    "latency_ms": 5.0,
    "first_token_ms": 512,
    "finish": ["stop"],
    "session": "s-1",
    "response_id": "r-1",
    "error": "",
    "no_contents": "",
}


def said(messages: list[dict[str, Any]]) -> list[Any]:
    return [
        (message["role"], [(part["kind"], part["text"]) for part in message["parts"]])
        for message in messages
    ]


@pytest.mark.parametrize("name", DIALECTS)
def test_same_call_gives_the_same_panel(name: str) -> None:
    values, more = DIALECTS[name]

    panel = panel_in(values, **more)

    assert {key: panel[key] for key in FIGURES} == FIGURES
    assert said(panel["prompt"]) == [
        ("system", [("text", "Be brief.")]),
        ("user", [("text", PROMPT)]),
    ]
    (answer,) = panel["completion"]
    assert said([answer]) == [
        (
            "assistant",
            [
                ("reasoning", "odd, no 7, no 13"),
                ("text", ANSWER),
                ("tool_call", '{"city":"Graz","days":2}'),
            ],
        )
    ]
    assert answer["parts"][2]["name"] == "weather"
    assert answer["parts"][2]["call_id"] == "call_1"


@pytest.mark.parametrize(
    "values",
    [
        {
            "gen_ai.input.messages": [
                {
                    "role": "user",
                    "parts": [{"type": "tool_call_response", "id": "c", "response": {"temp": 7}}],
                }
            ]
        },
        {
            "gen_ai.input.messages": [
                {
                    "role": "user",
                    "parts": [{"type": "tool_call_response", "id": "c", "result": '{"temp": 7}'}],
                }
            ]
        },
        {
            "gen_ai.prompt": json.dumps(
                [{"role": "tool", "tool_call_id": "c", "content": '{"temp":7}'}]
            )
        },
        {
            "gen_ai.prompt": json.dumps(
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "c", "content": '{"temp":7}'}
                        ],
                    }
                ]
            )
        },
        {
            "gen_ai.prompt": json.dumps(
                {
                    "role": "user",
                    "parts": [{"functionResponse": {"id": "c", "response": {"temp": 7}}}],
                }
            )
        },
        {
            "ai.prompt.messages": json.dumps(
                [
                    {
                        "role": "tool",
                        "content": [
                            {"type": "tool-result", "toolCallId": "c", "output": {"temp": 7}}
                        ],
                    }
                ]
            )
        },
    ],
)
def test_a_tool_s_result_is_told_in_every_shape(values: dict[str, Any]) -> None:
    (message,) = panel_in(NEWEST | values)["prompt"]

    (part,) = message["parts"]
    assert (part["kind"], part["call_id"], part["text"]) == ("tool_result", "c", '{"temp":7}')


@pytest.mark.parametrize(
    ("values", "sender"),
    [
        (
            {
                "gen_ai.tool.name": "weather",
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.call.arguments": ARGUMENTS,
                "gen_ai.tool.call.result": "rain",
            },
            "",
        ),
        (
            {
                "openinference.span.kind": "TOOL",
                "tool.name": "weather",
                "input.value": SPOKEN,
                "output.value": "rain",
            },
            "openinference",
        ),
        (
            {
                "traceloop.span.kind": "tool",
                "traceloop.entity.name": "weather",
                "traceloop.entity.input": SPOKEN,
                "traceloop.entity.output": "rain",
            },
            "openllmetry",
        ),
        (
            {
                "ai.operationId": "ai.toolCall",
                "ai.toolCall.name": "weather",
                "ai.toolCall.args": SPOKEN,
                "ai.toolCall.result": "rain",
            },
            "ai-sdk",
        ),
    ],
)
def test_use_of_a_tool_is_told_in_every_dialect(values: dict[str, Any], sender: str) -> None:
    panel = panel_in(values)

    assert (panel["kind"], panel["tool"], panel["sender"]) == ("tool", "weather", sender)
    assert said(panel["prompt"]) == [("tool", [("tool_call", '{"city":"Graz","days":2}')])]
    assert said(panel["completion"]) == [("tool", [("tool_result", "rain")])]


@pytest.mark.parametrize(
    "values",
    [
        {"gen_ai.tool.definitions": [{"type": "function", "name": "weather"}]},
        {"gen_ai.tool.definitions": json.dumps([{"function": {"name": "weather"}}])},
        {"gen_ai.tool.definitions.0.name": "weather"},
        {"llm.tools.0.tool.json_schema": json.dumps({"function": {"name": "weather"}})},
        {"ai.prompt.tools": [json.dumps({"type": "function", "name": "weather"})]},
    ],
)
def test_tools_offered_are_named(values: dict[str, Any]) -> None:
    assert panel_in(NEWEST | values)["tools_offered"] == ["weather"]
