"""OpenRouter as a sender: nothing goes in, its preset comes out."""

from typing import Final

from relay.config.presets.preset import HeaderField, Preset

OPENROUTER: Final = Preset(
    name="openrouter",
    title="OpenRouter Broadcast (a sender)",
    endpoint="https://{host}/v1/traces",
    examples=(("host", "relay.example"),),
    headers=(
        HeaderField(
            name="Authorization",
            template="Bearer {token}",
            asks="one of the tokens of [ingest] of this relay",
            is_secret=True,
            is_required=True,
            found_at='the list tokens under [ingest]; in OpenRouter: {"Authorization": "Bearer …"}',
        ),
    ),
    encoding="json",
    page="https://openrouter.ai/docs/guides/features/broadcast/otel-collector",
    is_sender=True,
    notes=(
        (
            "It sends OTLP/HTTP in JSON, asynchronously after each request, from its own servers: "
            "the relay needs a public https address, by a reverse proxy or a tunnel."
        ),
        (
            "The endpoint is used as it is and nothing is appended: write it with /v1/traces. "
            "Headers are given as one JSON object."
        ),
        (
            "Test Connection must pass before it saves. It posts one span named "
            "openrouter-connection-test, or an empty request with the header X-Test-Connection: "
            "true; 2xx passes. The relay answers it and shows when that was in `otlp-relay status`."
        ),
        (
            "It documents no retry: what is not answered with 200 may be lost. A proxy's limit of "
            "1 MB for bodies is such a loss, since single attributes of several MB are normal."
        ),
        (
            "The spans are one delivery a request: `LLM Generation` with children for each attempt "
            "at a provider and for the generation; ids given by the user may be no hex."
        ),
        "Privacy Mode leaves prompts and completions out; metadata, user and session stay.",
        "At most five destinations of a type; sampling goes by session_id.",
    ),
    unconfirmed=(
        "A delivery may come about a minute late.",
        (
            "Values of more than 10,000,000 characters are said to be shortened and marked "
            "KEY.truncated."
        ),
        "Ids that are no hex are said to end in a trace of their own.",
    ),
)
