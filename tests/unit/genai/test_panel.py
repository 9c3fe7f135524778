"""A panel is bounded, tells what it leaves out, and shows what it cannot read as it came."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay.genai.names import FLAT, NAMES
from relay.genai.panel import MOST_MESSAGES, PART_CHARACTERS
from relay.genai.parts import MOST_PARTS
from tests.support.builders import SPAN_ID
from tests.unit.genai.making import attributes, facts_in, llm_span, panel_in, trace_in

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "tiny"}
IMAGE = "data:image/png;base64," + "iVBORw0K" * 125_000  # 750,000 bytes of an image


def size_of(document: Any) -> int:
    return len(json.dumps(document).encode())


def parts_in(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for message in messages for part in message["parts"]]


def test_prompt_of_5_mb_is_cut_and_given_whole_when_asked_for() -> None:
    text = "\x1b é" * 1_700_000
    prompt = json.dumps([{"role": "user", "content": text}])
    trace = trace_in(llm_span(CHAT | {"gen_ai.prompt": prompt}))

    panel = trace.panel(SPAN_ID)

    assert panel is not None
    assert size_of(panel) < 100_000
    (part,) = parts_in(panel["prompt"])
    assert part["is_cut"]
    assert part["characters"] == len(text)
    assert part["bytes"] == len(text.encode())
    assert part["text"] == text[:PART_CHARACTERS]
    assert trace.part(SPAN_ID, "prompt", 0, 0) == text
    assert trace.part(SPAN_ID, "prompt", 0, 1) is None
    assert trace.part(SPAN_ID, "prompt", -1, 0) is None
    assert trace.part(SPAN_ID, "panel", 0, 0) is None
    assert trace.part("0" * 16, "prompt", 0, 0) is None


@pytest.mark.parametrize(("messages", "parts"), [(5, 7), (300, 30), (3, 50_000)])
def test_any_number_of_parts_stays_below_the_size_of_an_answer(messages: int, parts: int) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "\x00" * 9}] * parts}
    panel = panel_in(CHAT | {"gen_ai.prompt": json.dumps([message] * messages)})

    assert size_of(panel) < 300_000
    assert panel["prompt"][0]["all_parts"] == min(parts, MOST_PARTS)


def test_of_many_messages_the_first_and_the_last_are_shown_with_their_numbers() -> None:
    prompt = [{"role": "user", "content": f"message {number}"} for number in range(1000)]

    shown = panel_in(CHAT | {"gen_ai.prompt": json.dumps(prompt)})["prompt"]

    assert len(shown) == MOST_MESSAGES
    assert [message["number"] for message in shown[:2]] == [0, 1001 - MOST_MESSAGES]
    assert shown[-1]["number"] == 999
    assert parts_in(shown)[-1]["text"] == "message 999"


def test_answer_is_shown_though_the_prompt_takes_all_the_room() -> None:
    prompt = [{"role": "user", "content": "x" * 10_000}] * 50
    panel = panel_in(CHAT | {"gen_ai.prompt": json.dumps(prompt), "gen_ai.completion": "97"})

    assert parts_in(panel["completion"])[0]["text"] == "97"
    assert parts_in(panel["prompt"])[-1]["text"] == ""
    assert parts_in(panel["prompt"])[-1]["is_cut"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {"type": "input_image", "image_url": IMAGE},
        {"type": "image", "source": {"media_type": "image/png", "data": IMAGE[22:]}},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": IMAGE[22:]},
        {"type": "image", "image": IMAGE, "mediaType": "image/png"},
        {"type": "file", "data": IMAGE[22:], "mediaType": "image/png"},
        {"inlineData": {"mimeType": "image/png", "data": IMAGE[22:]}},
        {"type": "text", "text": IMAGE},
        {"message_content": {"type": "image", "image": {"image": {"url": IMAGE}}}},
    ],
)  # fmt: skip
def test_image_is_named_with_type_and_size_and_never_given(part: dict[str, Any]) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "what is it?"}, part]}

    panel = panel_in(CHAT | {"gen_ai.prompt": json.dumps([message])})

    assert parts_in(panel["prompt"])[1] == {
        "kind": "media",
        "media_type": "image/png",
        "bytes": 750_000,
        "url": "",
    }
    assert size_of(panel) < 3_000


def test_what_lies_elsewhere_is_named_by_its_address() -> None:
    part = {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"}
    panel = panel_in(CHAT | {"gen_ai.input.messages": [{"role": "user", "parts": [part]}]})

    (shown,) = parts_in(panel["prompt"])
    assert (shown["url"], shown["media_type"]) == ("https://example.com/a.png", "image")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('{"messages": [{"role"', '{"messages": [{"role"'),
        ("[" * 50_000, "[" * PART_CHARACTERS),
        ("plain words", "plain words"),
        ('["a", "b"]', "a"),
        ('{"a": 1}', '{"a":1}'),
        (["a list", 7, None, True], "a list"),
        (7, "7"),
        (False, "false"),
    ],
)
def test_what_is_no_message_is_shown_as_text(value: Any, text: str) -> None:
    panel = panel_in(CHAT | {"gen_ai.prompt": value})

    assert parts_in(panel["prompt"])[0]["text"] == text


def test_unknown_part_is_shown_as_its_json() -> None:
    message = {"role": "user", "parts": [{"type": "hologram", "beam": 3}]}

    (part,) = parts_in(panel_in(CHAT | {"gen_ai.input.messages": [message]})["prompt"])

    assert (part["kind"], part["text"]) == ("unknown", '{"type":"hologram","beam":3}')


@pytest.mark.parametrize(
    ("around", "words"),
    [
        ({"scope": "openrouter"}, "Privacy Mode"),
        ({"service": "claude-code"}, "OTEL_LOG_USER_PROMPTS"),
        ({"service": "copilot-chat"}, "captureContent"),
        ({"scope": "openinference.instrumentation.openai"}, "OPENINFERENCE_HIDE_INPUTS"),
        ({"scope": "ai"}, "recordInputs"),
        ({}, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
    ],
)
def test_without_contents_it_says_who_can_switch_them_on(
    around: dict[str, str], words: str
) -> None:
    panel = panel_in(CHAT | {"span.type": "generation"}, **around)

    assert panel["no_contents"].startswith("the sender recorded no contents")
    assert words in panel["no_contents"]
    assert panel["prompt"] == panel["completion"] == []


def test_span_of_something_else_has_no_panel_and_no_facts() -> None:
    trace = trace_in(llm_span({"http.request.method": "GET", "model": "T-800"}))

    assert trace.panel(SPAN_ID) is None
    assert facts_in(trace) == {"genai": None}


def test_facts_of_a_trace_leave_out_what_parents_repeat() -> None:
    usage = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 2}
    cost = {"gen_ai.usage.total_cost": 0.1}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 20}
    trace = trace_in(
        llm_span(agent, spanId="a" * 16),
        llm_span(CHAT | usage | cost, spanId="b" * 16, parentSpanId="a" * 16),
        llm_span(CHAT | usage | {"gen_ai.usage.total_cost": 0.2}, spanId="c" * 16),
        llm_span(CHAT | {"gen_ai.response.model": "other"}, spanId="d" * 16),
    )

    assert facts_in(trace)["genai"] == {
        "models": ["tiny", "other"],
        "calls": 3,
        "input_tokens": 20,
        "output_tokens": 4,
        "cost_usd": 0.3,  # no sum of doubles
    }


def test_error_is_told_by_its_type_and_the_words_of_the_status() -> None:
    failed = {"status": {"code": 2, "message": "rate limited"}}

    assert panel_in(CHAT | {"error.type": "429"}, **failed)["error"] == "429: rate limited"
    assert panel_in(CHAT, status={"code": 2})["error"] == "failed"
    raised = {"exception.type": "Timeout", "exception.message": "after 3 s"}
    event = {"name": "exception", "attributes": attributes(raised)}
    thrown = panel_in(CHAT, status={"code": 2}, events=[event])
    assert thrown["error"] == "Timeout: after 3 s"
    level = {"span.level": "ERROR", "span.status_message": "no provider", "span.type": "generation"}
    assert panel_in(CHAT | level, scope="openrouter")["error"] == "no provider"


def test_values_of_personal_attributes_are_left_out_unless_asked_for() -> None:
    trace = trace_in(llm_span(CHAT | {"user.email": "dev@example.com", "user.id": "u-1"}))

    hidden, shown = (trace.panel(SPAN_ID, show_personal=each) for each in (False, True))

    assert hidden is not None
    assert hidden["personal"] == {"user.email": ""}
    assert "dev@example.com" not in json.dumps(hidden)
    assert shown is not None
    assert shown["personal"] == {"user.email": "dev@example.com"}


def test_user_that_is_an_address_is_hidden_and_still_told_from_others() -> None:
    one, same, two = (
        panel_in(CHAT | {"user.id": each})["user"] for each in ("a@b.c", "a@b.c", "b@b.c")
    )

    assert one == same != two
    assert "@" not in one + two


CANARY = "<img src=x onerror=alert(1) hx-get=/>\x1b[31m\u202e"


def test_canaries_come_out_as_they_went_in() -> None:
    """The page escapes; nothing here makes markup, or takes any away in silence."""
    part = {"type": CANARY, "content": CANARY}
    call = {"type": "tool_call", "name": CANARY, "id": CANARY, "arguments": CANARY}
    values = CHAT | {
        "gen_ai.response.model": CANARY,
        "gen_ai.provider.name": CANARY,
        "gen_ai.agent.name": CANARY,
        "gen_ai.conversation.id": CANARY,
        "gen_ai.response.finish_reasons": [CANARY],
        "error.type": CANARY,
        "gen_ai.tool.definitions": [{"name": CANARY}],
        "gen_ai.input.messages": [{"role": CANARY, "parts": [part, call]}],
    }

    panel = panel_in(values)

    (message,) = panel["prompt"]
    assert message["role"] == CANARY
    assert message["parts"][1]["text"] == message["parts"][1]["name"] == CANARY
    for key in ("model", "provider", "agent", "session", "error"):
        assert panel[key] == CANARY, key
    assert panel["finish"] == panel["tools_offered"] == [CANARY]


def test_documents_table_has_every_name_that_is_understood() -> None:
    page = (Path(__file__).parents[3] / "docs" / "genai.md").read_text()
    names = {name for names in NAMES.values() for name in names}
    names |= {f"{prefix}.N.…" for prefixes in FLAT.values() for prefix in prefixes}

    assert sorted(name for name in names if f"`{name}`" not in page) == []
