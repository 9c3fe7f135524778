"""Vendors whose first trade is events and traces: nothing goes in, presets come out."""

from typing import Final

from relay.config.presets.preset import HeaderField, Preset, Refusal

AXIOM: Final = Preset(
    name="axiom",
    title="Axiom",
    endpoint="https://api.axiom.co/v1/traces",
    endpoints=(
        ("US", "https://us-east-1.aws.edge.axiom.co/v1/traces"),
        ("EU", "https://eu-central-1.aws.edge.axiom.co/v1/traces"),
    ),
    headers=(
        HeaderField(
            name="Authorization",
            template="Bearer {token}",
            asks="API token (xaat-…)",
            is_secret=True,
            is_required=True,
            found_at="the settings of Axiom, API tokens; it must be allowed to ingest",
        ),
        HeaderField(
            name="X-Axiom-Dataset",
            template="{token}",
            asks="name of the data set",
            example="traces",
            is_required=True,
            found_at="the data sets of Axiom; the token must be allowed to write to it",
        ),
    ),
    page="https://axiom.co/docs/send-data/opentelemetry",
    refusals=(
        Refusal(
            status=403,
            meaning="the token is wrong, or may not write to this data set",
            remedy="check that the token begins with xaat-, may ingest, and that "
            "X-Axiom-Dataset names a data set that exists",
        ),
        Refusal(
            status=429,
            words="rate limit exceeded",
            meaning="more than Axiom accepts at a time; its X-RateLimit-* headers say how much",
            remedy="none: the relay waits and retries",
        ),
    ),
    notes=(
        (
            "A data set has 256 or 1024 fields, depending on the plan. Each attribute name is one, "
            "and an event that brings one too many is rejected; OpenRouter's spans have 30 to 90."
        ),
        (
            "A field holds 1 MB, a name 200 bytes, a batch 10,000 events; nested values are cut at "
            "depth 100; NaN and Infinity become null."
        ),
        (
            "Newer accounts have an address for each edge: if api.axiom.co refuses, try the one of "
            "the region that the settings name."
        ),
    ),
)

HONEYCOMB: Final = Preset(
    name="honeycomb",
    title="Honeycomb",
    endpoint="https://api.honeycomb.io/v1/traces",
    endpoints=(
        ("US", "https://api.honeycomb.io/v1/traces"),
        ("EU", "https://api.eu1.honeycomb.io/v1/traces"),
    ),
    headers=(
        HeaderField(
            name="x-honeycomb-team",
            template="{token}",
            asks="API key for ingest",
            is_secret=True,
            is_required=True,
            found_at="the settings of the environment, API keys",
        ),
        HeaderField(
            name="x-honeycomb-dataset",
            template="{token}",
            asks="data set (needed with a Classic key only, else service.name decides)",
            found_at="a Classic key has 32 hex digits, or 64 characters and begins like hcaic_",
        ),
    ),
    makes_dataset=True,
    page="https://docs.honeycomb.io/api/introduction",
    refusals=(
        Refusal(
            status=401,
            words="missing 'x-honeycomb-team' header",
            meaning="no key was sent",
            remedy="set the header x-honeycomb-team",
        ),
        Refusal(
            status=401,
            words="x-honeycomb-dataset",
            meaning="a Classic key needs a data set",
            remedy="set the header x-honeycomb-dataset",
        ),
        Refusal(
            status=401,
            meaning="the key is unknown or revoked, or belongs to another region",
            remedy="check the key, and its region: an EU key works only at api.eu1.honeycomb.io",
        ),
        Refusal(
            status=400,
            words="ParseUint",
            meaning="times in JSON were numbers, and Honeycomb reads only strings",
            remedy='set encoding = "protobuf"; the relay itself writes strings',
        ),
    ),
    notes=(
        (
            "A span creates a data set named after its service.name (unknown_service without one): "
            "the connection test sends an empty request unless `--span` is given."
        ),
        "Times in JSON have to be strings, which is how the relay writes them.",
        (
            "A body has at most 20 MiB, a field 65,535 bytes. Nested attributes are flattened to "
            "depth 5; what is deeper becomes JSON text. gzip and zstd are accepted."
        ),
        "Older versions of Refinery in front of it answer 500 to a body that they cannot read.",
    ),
    unconfirmed=(
        "That times as numbers are refused follows from Honeycomb's code and was not tested.",
        "How it refuses a Classic key without a data set.",
    ),
)

LIGHTSTEP: Final = Preset(
    name="lightstep",
    title="Lightstep (ServiceNow Cloud Observability)",
    endpoint="https://ingest.lightstep.com:443/v1/traces",
    endpoints=(
        ("US, protobuf", "https://ingest.lightstep.com:443/v1/traces"),
        ("EU, protobuf", "https://ingest.eu.lightstep.com:443/v1/traces"),
        ("US, as others write it", "https://ingest.lightstep.com/traces/otlp/v0.9"),
    ),
    headers=(
        HeaderField(
            name="lightstep-access-token",
            template="{token}",
            asks="access token of the project",
            is_secret=True,
            is_required=True,
            found_at="the settings of the project, access tokens",
        ),
    ),
    encoding="protobuf",
    page="https://docs.lightstep.com/archive/send-otlp-over-http-to-lightstep",
    notes=(
        "The endpoint /v1/traces accepts protobuf; JSON has an endpoint of its own.",
        "We found no documentation of its refusals and limits.",
    ),
    unconfirmed=(
        "The end of the product was announced for 2026: check whether it still accepts spans.",
        "Whether /traces/otlp/v0.9 is for JSON.",
    ),
)

GRAFANA_CLOUD: Final = Preset(
    name="grafana-cloud",
    title="Grafana Cloud",
    endpoint="https://otlp-gateway-{zone}.grafana.net/otlp/v1/traces",
    examples=(("zone", "prod-us-east-0"),),
    headers=(
        HeaderField(
            name="Authorization",
            template="Basic {token}",
            asks="base64 of INSTANCE_ID:glc_TOKEN",
            is_secret=True,
            is_required=True,
            found_at="the stack's page, OpenTelemetry: address, instance id and a token with the "
            "scope traces:write; `printf %s 'ID:TOKEN' | base64 -w0` joins them",
        ),
    ),
    page="https://grafana.com/docs/grafana-cloud/send-data/otlp/send-data-otlp/",
    refusals=(
        Refusal(
            status=401,
            meaning="instance id and token do not match, or the token lacks the scope traces:write",
            remedy="encode INSTANCE_ID:TOKEN as base64 again, without a newline in it",
        ),
    ),
    notes=(
        "The path is /otlp/v1/traces: without /otlp there is nothing.",
        "Its limits are those of the stack's Tempo.",
    ),
    unconfirmed=("That a wrong token gets 401.",),
)

EVENTS: Final = (AXIOM, HONEYCOMB, LIGHTSTEP, GRAFANA_CLOUD)
