"""Backends made for calls of language models: nothing goes in, presets come out."""

from typing import Final

from relay.config.presets.preset import HeaderField, Preset, Refusal

LANGFUSE: Final = Preset(
    name="langfuse",
    title="Langfuse",
    endpoint="https://cloud.langfuse.com/api/public/otel/v1/traces",
    endpoints=(
        ("EU", "https://cloud.langfuse.com/api/public/otel/v1/traces"),
        ("US", "https://us.cloud.langfuse.com/api/public/otel/v1/traces"),
        ("Japan", "https://jp.cloud.langfuse.com/api/public/otel/v1/traces"),
        ("HIPAA", "https://hipaa.cloud.langfuse.com/api/public/otel/v1/traces"),
        ("run by yourself, 3.22 or newer", "https://{host}/api/public/otel/v1/traces"),
    ),
    headers=(
        HeaderField(
            name="Authorization",
            template="Basic {token}",
            asks="base64 of PUBLIC_KEY:SECRET_KEY (pk-lf-…:sk-lf-…)",
            is_secret=True,
            is_required=True,
            found_at="the project's settings, API keys; `printf %s 'PUBLIC:SECRET' | base64 -w0` "
            "joins them",
        ),
        HeaderField(
            name="x-langfuse-ingestion-version",
            template="4",
            found_at="fixed: with it traces show in real time",
        ),
    ),
    page="https://langfuse.com/integrations/native/opentelemetry",
    refusals=(
        Refusal(
            status=401,
            meaning="public and secret key do not fit, or belong to another region",
            remedy="make the base64 anew of PUBLIC_KEY:SECRET_KEY, without a newline in it",
        ),
        Refusal(
            status=403,
            meaning="the project is suspended",
            remedy="look at the organization's billing page in Langfuse",
        ),
        Refusal(
            status=400,
            meaning="one span without ids makes Langfuse refuse the whole batch",
            remedy="nothing at the relay: it takes such spans out; look for a sender beside it",
        ),
    ),
    notes=(
        "Bodies may be gzip and nothing else. More than 16 MB is taken with a warning.",
        "Its answer is an empty object or one about its queue.",
    ),
)

PHOENIX: Final = Preset(
    name="phoenix",
    title="Arize Phoenix",
    endpoint="http://{host}:6006/v1/traces",
    examples=(("host", "localhost"),),
    endpoints=(
        ("on this host", "http://localhost:6006/v1/traces"),
        ("Phoenix Cloud", "https://app.phoenix.arize.com/s/{space}/v1/traces"),
    ),
    headers=(
        HeaderField(
            name="Authorization",
            template="Bearer {token}",
            asks="API key (only if authentication is on)",
            is_secret=True,
            found_at="the settings of Phoenix, API keys",
        ),
        HeaderField(
            name="x-project-name",
            template="{token}",
            asks="project (else the resource attribute openinference.project.name decides)",
        ),
    ),
    encoding="protobuf",
    page="https://arize.com/docs/phoenix/integrations/llm-providers/openrouter/"
    "openrouter-broadcast",
    refusals=(
        Refusal(
            status=415,
            meaning="Phoenix takes protobuf only, and the content type has to be exactly its own",
            remedy='set encoding = "protobuf"',
        ),
        Refusal(
            status=401,
            words="Invalid token",
            meaning="Phoenix does not know this API key",
            remedy="make a new key in its settings and send it as Authorization: Bearer KEY",
        ),
        Refusal(
            status=401,
            meaning="Phoenix asks for an API key",
            remedy="make one in its settings and send it as Authorization: Bearer KEY",
        ),
        Refusal(
            status=422,
            meaning="the body could not be read as OTLP",
            remedy="report it with the output of `otlp-relay destination test`",
        ),
        Refusal(
            status=503,
            meaning="Phoenix is busy",
            remedy="nothing, the relay sends again later",
        ),
    ),
    notes=(
        "OpenRouter sends JSON, which Phoenix refuses: the relay turns it into protobuf.",
        "Bodies may be gzip or deflate.",
    ),
    unconfirmed=("The part /s/SPACE of the address of Phoenix Cloud.",),
)

MLFLOW: Final = Preset(
    name="mlflow",
    title="MLflow",
    endpoint="http://{host}:5000/v1/traces",
    examples=(("host", "localhost"),),
    endpoints=(("on this host", "http://localhost:5000/v1/traces"),),
    headers=(
        HeaderField(
            name="x-mlflow-experiment-id",
            template="{token}",
            asks="number of the experiment",
            example="1",
            is_required=True,
            found_at="the experiment's page in MLflow",
        ),
        HeaderField(
            name="Authorization",
            template="{token}",
            asks="whole value, such as Basic BASE64 (only if this deployment asks for one)",
            is_secret=True,
            found_at="whoever runs this MLflow",
        ),
    ),
    encoding="protobuf",
    refuses_empty=True,
    page="https://mlflow.org/docs/latest/genai/tracing/opentelemetry/",
    refusals=(
        Refusal(
            status=400,
            words="no spans found",
            meaning="it refuses a request without spans; the connection and headers are in order",
            remedy="test with a span: `otlp-relay destination test NAME --span`",
        ),
        Refusal(
            status=400,
            meaning="MLflow takes protobuf only, or could not read the body",
            remedy='set encoding = "protobuf"',
        ),
        Refusal(
            status=422,
            words="experiment",
            meaning="the header x-mlflow-experiment-id is missing",
            remedy="give the number of an experiment that exists",
        ),
        Refusal(
            status=422,
            meaning="the spans could not be turned into its own form",
            remedy="look at the answer's text; the relay sets such a batch aside",
        ),
    ),
    notes=("How it refuses a wrong login depends on what stands in front of it.",),
)

LLM: Final = (LANGFUSE, PHOENIX, MLFLOW)
