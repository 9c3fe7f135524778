"""Jaeger, Tempo and the Collector, mostly run by oneself: nothing goes in, presets come out."""

from typing import Final

from relay.config.presets.preset import HeaderField, Preset, Refusal

_OWN_PORT = (
    "OTLP over HTTP has port 4318 by convention and so has this relay: on one host one of the two "
    "has to move."
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
        "It wants no header.",
        (
            "It listens on localhost only unless JAEGER_LISTEN_HOST says otherwise: from another "
            "host or container set that, or the connection is refused."
        ),
        _OWN_PORT,
        "Its memory store keeps 100,000 traces; a written trace can be read back a moment later.",
        (
            "A span with NaN or Infinity in an attribute is taken, and then its trace cannot be "
            'read: set special_doubles = "string" if a sender has such numbers.'
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
            remedy="nothing at the relay: it takes such spans out; look for a sender beside it",
        ),
        Refusal(
            status=429,
            meaning="more than the rate limit (30 MB/s and as much in a burst by default)",
            remedy="nothing, the relay waits as long as Tempo says; or raise the limit in Tempo",
        ),
        Refusal(
            status=503,
            meaning="Tempo is not ready, or it wants a tenant and none was sent",
            remedy="if multitenancy_enabled is true, give the header X-Scope-OrgID",
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
        "That a missing tenant shows as 503 follows from Tempo's code and was not tried.",
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
            meaning="its authenticator does not know this token",
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
            meaning="mostly a refusal that it could not put into the request's encoding",
            remedy="check the token, then the Collector's log",
        ),
    ),
    notes=(
        "A Collector asks for a header only if its configuration says so.",
        _OWN_PORT,
    ),
)

COLLECTORS: Final = (JAEGER, TEMPO, OTEL_COLLECTOR)
