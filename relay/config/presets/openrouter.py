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
            "the relay needs a public HTTPS address, through a reverse proxy or a tunnel."
        ),
        (
            "The endpoint is used as it is and nothing is appended: include /v1/traces. "
            "Headers are written as one JSON object."
        ),
        (
            "A destination is saved only after Test Connection has passed. It posts one span named "
            "openrouter-connection-test, or an empty request with the header X-Test-Connection: "
            "true; any 2xx passes. `otlp-relay status` shows when the relay was last tested."
        ),
        (
            "It documents no retry: what is not answered with 200 may be lost. A proxy that limits "
            "bodies to 1 MB loses spans, since single attributes of several MB are normal."
        ),
        (
            "Each request is delivered on its own: `LLM Generation` with children for each attempt "
            "at a provider and for the generation. Ids given by the user may not be hex."
        ),
        "Privacy Mode omits prompts and completions; metadata, user and session stay.",
        "There are at most five destinations of a type; sampling is by session_id.",
    ),
    unconfirmed=(
        "A delivery may arrive about a minute late.",
        (
            "Values of more than 10,000,000 characters are said to be shortened and marked "
            "KEY.truncated."
        ),
        "Ids that are not hex are said to get a trace of their own.",
    ),
)
