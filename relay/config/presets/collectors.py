"""Jaeger, Tempo and the Collector, mostly run by oneself: nothing goes in, presets come out."""

from typing import Final

from relay.config.presets.preset import HeaderField, Preset, Refusal

_OWN_PORT = (
    "Port 4318 is the convention for OTLP over HTTP, and this relay uses it too: on the same host, "
    "one of the two needs another port."
)

JAEGER: Final = Preset(
    name="jaeger",
    title="Jaeger",
    endpoint="http://{host}:4318/v1/traces",
    examples=(("host", "jaeger.example"),),
    endpoints=(("on this host, published at another port", "http://localhost:14318/v1/traces"),),
    query="jaeger",
    query_endpoint="http://{host}:16686/api/traces/{trace_id}",
    page="https://www.jaegertracing.io/docs/",
    refusals=(
        Refusal(
            status=400,
            meaning="the whole batch was refused: it is larger than 20 MiB, or cannot be read",
            remedy="keep max_batch_bytes below 20MiB",
        ),
    ),
    notes=(
        "It needs no header.",
        (
            "It listens on localhost only, unless JAEGER_LISTEN_HOST is set: without it, "
            "connections from other hosts and containers are refused."
        ),
        _OWN_PORT,
        "Its memory store keeps 100,000 traces; a new trace can be read back a moment later.",
        (
            "It accepts a span with NaN or Infinity in an attribute, but then cannot show its "
            'trace: set special_doubles = "string" if a sender has such numbers.'
        ),
    ),
)

TEMPO: Final = Preset(
    name="tempo",
    title="Grafana Tempo",
    endpoint="http://{host}:4318/v1/traces",
    examples=(("host", "tempo.example"),),
    headers=(
        HeaderField(
            name="X-Scope-OrgID",
            template="{token}",
            asks="tenant (only if multitenancy_enabled is true)",
            found_at="whoever runs this Tempo names the tenants",
        ),
    ),
    query="tempo",
    query_endpoint="http://{host}:3200/api/traces/{trace_id}",
    page="https://grafana.com/docs/tempo/latest/api_docs/",
    refusals=(
        Refusal(
            status=400,
            words="must be 128 bit",
            meaning="one trace id or span id is empty or zero, and Tempo refused the whole batch",
            remedy="look for another sender: the relay itself rejects such spans",
        ),
        Refusal(
            status=429,
            meaning="more than the rate limit (by default 30 MB/s, and as much in a burst)",
            remedy="none: the relay waits as long as Tempo says; or raise the limit in Tempo",
        ),
        Refusal(
            status=503,
            meaning="Tempo is not ready, or it needs a tenant and none was sent",
            remedy="if multitenancy_enabled is true, set the header X-Scope-OrgID",
        ),
    ),
    notes=(
        (
            "Attribute values are cut at 2048 bytes, and a trace has at most 5 MB, unless its "
            "configuration says otherwise."
        ),
        _OWN_PORT,
    ),
    unconfirmed=(
        "That a missing tenant shows as 503 follows from Tempo's code and was not tested.",
    ),
)

OTEL_COLLECTOR: Final = Preset(
    name="otel-collector",
    title="OpenTelemetry Collector",
    endpoint="http://{host}:4318/v1/traces",
    examples=(("host", "collector.example"),),
    headers=(
        HeaderField(
            name="Authorization",
            template="{token}",
            asks="whole value, such as Bearer TOKEN or Basic BASE64 (only if it asks for one)",
            is_secret=True,
            found_at="auth: at the otlp receiver in the Collector's configuration; the "
            "bearertokenauth extension may name another header",
        ),
    ),
    page="https://opentelemetry.io/docs/collector/",
    refusals=(
        Refusal(
            status=401,
            meaning="the token is unknown to its authenticator",
            remedy="compare the header with bearertokenauth, basicauth or oidc in its "
            "configuration: name, scheme and token",
        ),
        Refusal(
            status=400,
            meaning="the body was larger than 20 MiB, or could not be read",
            remedy="keep max_batch_bytes below 20MiB; the Collector's log has the reason",
        ),
        Refusal(
            status=500,
            meaning="usually a refusal that it could not write in the request's encoding",
            remedy="check the token, then the Collector's log",
        ),
    ),
    notes=(
        "A Collector needs a header only if its configuration says so.",
        _OWN_PORT,
    ),
)

COLLECTORS: Final = (JAEGER, TEMPO, OTEL_COLLECTOR)
