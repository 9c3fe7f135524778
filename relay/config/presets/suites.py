"""Vendors of traces, metrics and logs together: nothing goes in, presets come out."""

from typing import Final

from relay.config.presets.preset import HeaderField, Preset, Refusal

DATADOG: Final = Preset(
    name="datadog",
    title="Datadog",
    endpoint="https://otlp.{site}/v1/traces",
    examples=(("site", "datadoghq.com"),),
    headers=(
        HeaderField(
            name="dd-api-key",
            template="{token}",
            asks="API key",
            is_secret=True,
            is_required=True,
            found_at="the organization's settings, API keys",
        ),
        HeaderField(
            name="dd-otel-span-mapping",
            template="{token}",
            asks="mapping of span names (optional)",
        ),
        HeaderField(
            name="compute_stats",
            template="{token}",
            asks="true to have statistics computed from the spans (optional)",
        ),
    ),
    encoding="protobuf",
    max_batch_bytes=3_200_000,
    success_statuses=(202,),
    page="https://docs.datadoghq.com/opentelemetry/setup/otlp_ingest/traces",
    refusals=(
        Refusal(
            status=403,
            meaning="the API key is unknown at this site, or revoked",
            remedy="check the key, and that the host names the account's site",
        ),
        Refusal(
            status=413,
            meaning="the body was larger than 3.2 MB",
            remedy='set max_batch_bytes = "3200kB" or less',
        ),
    ),
    notes=(
        (
            "Older pages of its documentation call this a preview that accepts protobuf only, "
            "newer ones name JSON too. The preset uses protobuf."
        ),
        "It responds with 202.",
    ),
    unconfirmed=("The form of the host, otlp.SITE.",),
)

NEWRELIC: Final = Preset(
    name="newrelic",
    title="New Relic",
    endpoint="https://otlp.nr-data.net/v1/traces",
    endpoints=(
        ("US", "https://otlp.nr-data.net/v1/traces"),
        ("EU", "https://otlp.eu01.nr-data.net/v1/traces"),
        ("US government", "https://gov-otlp.nr-data.net/v1/traces"),
    ),
    headers=(
        HeaderField(
            name="api-key",
            template="{token}",
            asks="license key",
            is_secret=True,
            is_required=True,
            found_at="the account's API keys, of the type license",
        ),
    ),
    encoding="protobuf",
    max_batch_bytes=1_000_000,
    success_statuses=(200, 202),
    page="https://docs.newrelic.com/docs/opentelemetry/best-practices/opentelemetry-otlp/",
    refusals=(
        Refusal(
            status=403,
            meaning="the license key is unknown in this region, or revoked",
            remedy="check that it is a license key, and that the host is that of its region",
        ),
        Refusal(
            status=404,
            meaning="the path is wrong",
            remedy="use an endpoint that ends with /v1/traces",
        ),
        Refusal(
            status=413,
            meaning="the body was larger than 1 MB",
            remedy='set max_batch_bytes = "1MB" or less',
        ),
    ),
    notes=(
        (
            "A name has at most 255 characters, a value 4095, a list 64 entries. What is larger is "
            "accepted at first and shows as NrIntegrationError afterwards: look there if spans are "
            "missing."
        ),
        "The ports 443, 4317 and 4318 are open.",
    ),
    unconfirmed=(
        "That a wrong key gets 403, and a body that is too large 413.",
        "Whether success is 200 or 202.",
    ),
)

DASH0: Final = Preset(
    name="dash0",
    title="Dash0",
    endpoint="https://ingress.{region}.aws.dash0.com/v1/traces",
    examples=(("region", "us-west-2"),),
    headers=(
        HeaderField(
            name="Authorization",
            template="Bearer {token}",
            asks="auth token",
            is_secret=True,
            is_required=True,
            found_at="the organization's settings, auth tokens and endpoints",
        ),
        HeaderField(
            name="Dash0-Dataset",
            template="{token}",
            asks="name of the data set (optional)",
        ),
    ),
    max_age_seconds=6 * 3600.0,
    page="https://dash0.com/documentation/dash0/limits",
    refusals=(
        Refusal(
            status=401,
            meaning="the token is unknown or revoked",
            remedy="check the token, and that the host is that of its region",
        ),
    ),
    notes=(
        "It does not accept spans older than 6 hours: a longer outage loses spans for it.",
        (
            "A span has at most 32 attributes, 8 events and 128 links, a name 128 characters, a "
            "value 2048; a trace has 2000 spans. OpenRouter's spans have 30 to 90 attributes."
        ),
    ),
    unconfirmed=(
        "Whether it accepts JSON: if not, the relay tries protobuf.",
        "That a wrong token gets 401.",
        "Whether it works without Dash0-Dataset.",
    ),
)

SIGNOZ: Final = Preset(
    name="signoz",
    title="SigNoz",
    endpoint="https://ingest.{region}.signoz.cloud:443/v1/traces",
    examples=(("region", "us"),),
    endpoints=(
        ("US", "https://ingest.us.signoz.cloud:443/v1/traces"),
        ("EU", "https://ingest.eu.signoz.cloud:443/v1/traces"),
        ("India", "https://ingest.in.signoz.cloud:443/v1/traces"),
        ("self-hosted", "http://{host}:4318/v1/traces"),
    ),
    headers=(
        HeaderField(
            name="signoz-ingestion-key",
            template="{token}",
            asks="ingestion key (SigNoz Cloud)",
            is_secret=True,
            found_at="the settings of SigNoz Cloud, ingestion; a self-hosted SigNoz needs none",
        ),
    ),
    page="https://signoz.io/docs/ingestion",
    refusals=(
        Refusal(
            status=401,
            meaning="the key is unknown to SigNoz Cloud, or none was sent",
            remedy="set the header signoz-ingestion-key to the key of this region",
        ),
    ),
    notes=(
        "It runs an OpenTelemetry Collector: JSON and protobuf, at most 20 MiB.",
        "Older accounts use the header signoz-access-token instead.",
    ),
    unconfirmed=("That a wrong key gets 401.",),
)

UPTRACE: Final = Preset(
    name="uptrace",
    title="Uptrace",
    endpoint="https://api.uptrace.dev/v1/traces",
    headers=(
        HeaderField(
            name="uptrace-dsn",
            template="https://{token}@api.uptrace.dev",
            asks="token of the project's DSN",
            is_secret=True,
            is_required=True,
            found_at="the project's settings: the part of the DSN between https:// and @",
        ),
    ),
    page="https://uptrace.dev/ingest/opentelemetry",
    notes=("We found no documentation of its refusals and limits.",),
    unconfirmed=("Whether it accepts JSON: if not, the relay tries protobuf.",),
)

SUITES: Final = (DATADOG, NEWRELIC, DASH0, SIGNOZ, UPTRACE)
