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
        ("self-hosted, 3.22 or newer", "https://{host}/api/public/otel/v1/traces"),
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
            found_at="fixed: with it, traces show in real time",
        ),
    ),
    page="https://langfuse.com/integrations/native/opentelemetry",
    refusals=(
        Refusal(
            status=401,
            meaning="public and secret key do not match, or belong to another region",
            remedy="encode PUBLIC_KEY:SECRET_KEY as base64 again, without a newline in it",
        ),
        Refusal(
            status=403,
            meaning="the project is suspended",
            remedy="look at the organization's billing page in Langfuse",
        ),
        Refusal(
            status=400,
            meaning="one span without ids makes Langfuse refuse the whole batch",
            remedy="look for another sender: the relay itself rejects such spans",
        ),
    ),
    notes=(
        "gzip is the only compression. It accepts more than 16 MB, with a warning.",
        "Its response is an empty object, or one about its queue.",
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
            meaning="Phoenix accepts protobuf only, with exactly its content type",
            remedy='set encoding = "protobuf"',
        ),
        Refusal(
            status=401,
            words="Invalid token",
            meaning="the API key is unknown or revoked",
            remedy="create a key in its settings and send it as Authorization: Bearer KEY",
        ),
        Refusal(
            status=401,
            meaning="Phoenix requires an API key",
            remedy="create one in its settings and send it as Authorization: Bearer KEY",
        ),
        Refusal(
            status=422,
            meaning="the body could not be read as OTLP",
            remedy="report it with the output of `otlp-relay destination test`",
        ),
        Refusal(
            status=503,
            meaning="Phoenix is busy",
            remedy="none: the relay retries later",
        ),
    ),
    notes=(
        "OpenRouter sends JSON, which Phoenix refuses: the relay converts it to protobuf.",
        "It accepts gzip and deflate.",
    ),
    unconfirmed=("The part /s/SPACE in the address of Phoenix Cloud.",),
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
            asks="whole value, such as Basic BASE64 (only if this deployment needs one)",
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
            meaning="it refuses a request without spans; the connection and headers are fine",
            remedy="test with a span: `otlp-relay destination test NAME --span`",
        ),
        Refusal(
            status=400,
            meaning="MLflow accepts protobuf only, or could not read the body",
            remedy='set encoding = "protobuf"',
        ),
        Refusal(
            status=422,
            words="experiment",
            meaning="the header x-mlflow-experiment-id is missing",
            remedy="set it to the number of an experiment that exists",
        ),
        Refusal(
            status=422,
            meaning="MLflow could not convert the spans",
            remedy="read the response; such spans become dead letters",
        ),
    ),
    notes=("How it refuses wrong credentials depends on what is in front of it.",),
)

LLM: Final = (LANGFUSE, PHOENIX, MLFLOW)
