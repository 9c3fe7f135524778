"""Who sent an item, as far as it matters for reading it: by scope, then service, then names.

Service names change (three for Codex), scopes hardly do.
"""

from typing import Final

from relay.genai.values import Attributes

# (sender, beginnings of scopes, services, beginnings of names)
_SENDERS: Final = (
    ("claude-code", ("com.anthropic.claude_code",), ("claude-code",), ("claude_code.",)),
    ("codex", ("codex",), ("codex_cli_rs", "codex_exec", "codex-app-server"), ("codex.",)),
    ("gemini-cli", ("gemini-cli",), ("gemini-cli",), ("gemini_cli.",)),
    (
        "copilot",
        ("copilot-chat", "github.copilot"),
        ("copilot-chat", "github-copilot"),
        ("copilot_chat.", "github.copilot."),
    ),
    ("cursor", ("cursor.",), ("cursor",), ("cursor.",)),
    ("openrouter", ("openrouter",), ("openrouter",), ()),
    ("openinference", ("openinference.",), (), ()),
    ("openllmetry", ("opentelemetry.instrumentation.", "traceloop"), (), ()),
    ("litellm", ("litellm",), ("litellm",), ("litellm.",)),
)
_BY_KEY: Final = (
    ("openinference.span.kind", "openinference"),
    ("traceloop.span.kind", "openllmetry"),
    ("llm.request.type", "openllmetry"),
    ("ai.operationId", "ai-sdk"),
)
_DEFAULT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true where the app runs"

# What switches contents on, for a sender that recorded none.
_SWITCHES: Final = {
    "claude-code": "OTEL_LOG_USER_PROMPTS=1 (and OTEL_LOG_TOOL_DETAILS=1) for Claude Code",
    "codex": "log_user_prompt = true under [otel] of Codex's config.toml",
    "gemini-cli": "GEMINI_TELEMETRY_LOG_PROMPTS=true for Gemini CLI",
    "copilot": "the setting github.copilot.chat.otel.captureContent of VS Code",
    "openrouter": "OpenRouter: Privacy Mode of this Broadcast destination leaves contents out",
    "openinference": "the app: OPENINFERENCE_HIDE_INPUTS and …_HIDE_OUTPUTS must not be true",
    "openllmetry": "TRACELOOP_TRACE_CONTENT=true where the app runs",
    "ai-sdk": "recordInputs and recordOutputs of the AI SDK's telemetry",
    "cursor": "nobody: Cursor sends no contents",
    "litellm": "message logging of LiteLLM (turn_off_message_logging must not be set)",
}
# Of agents that never say all or nothing, what a prompt withheld means.
_WITHHELD: Final = {
    "codex": "prompt withheld; arguments and output of tools are content and are sent always",
    "gemini-cli": "system instructions are sent even with logPrompts off",
}


def sender_of(scope: str, service: str, name: str, attributes: Attributes) -> str:
    """The known sender of an item, or an empty text."""
    for key, sender in _BY_KEY:
        if key in attributes:
            return sender
    for sender, scopes, _services, _names in _SENDERS:
        if scope.startswith(scopes):
            return sender
    for sender, _scopes, services, names in _SENDERS:
        if service in services or (names and name.startswith(names)):
            return sender
    return "ai-sdk" if scope in ("ai", "gen_ai") else ""


def content_switch(sender: str) -> str:
    """What must be set, and where, so that prompts and completions are sent."""
    return _SWITCHES.get(sender, _DEFAULT)


def withheld_words(sender: str) -> str:
    """What it means that a sender's prompts came without their text."""
    return _WITHHELD.get(sender, "withheld by the sender")
