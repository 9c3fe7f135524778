import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from relay.config.load import load
from relay.config.presets import PRESETS, HeaderField, KnownRefusal, Preset, find, known_at
from relay.config.presets.example import command_of, headers_of, settings_of, toml_of, variable_of
from relay.model.errors import ConfigError
from scripts.preset_pages import FOLDER, pages, wrong_pages

NAMES = [
    "openrouter", "axiom", "dash0", "datadog", "grafana-cloud", "honeycomb", "jaeger", "langfuse",
    "lightstep", "loki", "mimir", "mlflow", "newrelic", "openobserve", "otel-collector", "phoenix",
    "prometheus", "signoz", "tempo", "uptrace", "victoria-logs", "victoria-metrics",
]  # fmt: skip
DESTINATIONS = [preset for preset in PRESETS.values() if not preset.is_sender]
EACH = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
EACH_DESTINATION = pytest.mark.parametrize(
    "preset", DESTINATIONS, ids=[preset.name for preset in DESTINATIONS]
)
ROOT = Path(__file__).parents[3]


def a_preset(**changed: object) -> Preset:
    fields: dict[str, object] = {"name": "x", "title": "X", "endpoint": "https://x/", "page": "p"}
    return Preset(**{**fields, **changed})  # type: ignore[arg-type]


def test_presets_are_those_that_users_have() -> None:
    assert list(PRESETS) == NAMES


@pytest.mark.parametrize("wrong", [{"endpont": "https://x/"}, {"refusals": [{"status": "no"}]}])
def test_file_of_a_preset_with_a_wrong_key_or_value_is_refused(wrong: dict[str, object]) -> None:
    right = {"name": "x", "title": "X", "endpoint": "https://x/", "page": "p"}
    assert msgspec.convert(right, Preset).name == "x"

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**right, **wrong}, Preset)


def test_preset_is_found_by_its_name() -> None:
    assert find("axiom").title == "Axiom"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("axoim", "did you mean axiom?"),
        ("AXIOM", "did you mean axiom?"),
        ("Grafana", "did you mean grafana-cloud?"),
        ("collector", "did you mean otel-collector?"),
        ("zzz", "there are openrouter, axiom, dash0"),
    ],
)
def test_unknown_preset_is_an_error_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"no preset '{name}'") as caught:
        find(name)

    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


def test_backend_is_known_by_a_host_that_it_has_for_everybody() -> None:
    langfuse = known_at("https://us.cloud.langfuse.com/any/path")
    axiom = known_at("https://x@api.axiom.co/v1/traces")

    assert (langfuse and langfuse.name, axiom and axiom.name) == ("langfuse", "axiom")
    assert known_at("https://langfuse.example/api/public/otel/v1/traces") is None


@EACH
def test_endpoints_are_whole_urls_for_the_first_signal(preset: Preset) -> None:
    for url in preset.all_endpoints:
        parts = urlsplit(re.sub(r"\{[a-z]+\}", "x", url))
        assert parts.scheme in {"http", "https"}
        assert parts.hostname
        first = preset.default_signals[0]
        assert parts.path.endswith((f"/v1/{first}", "/traces/otlp/v0.9"))
        assert parts.path.count(f"v1/{first}") <= 1
        assert parts.port != 4317
    assert preset.placeholders == tuple(preset.examples)
    assert "{" not in preset.example_endpoint


@EACH
def test_headers_say_what_goes_in_and_where_it_is_found(preset: Preset) -> None:
    assert len({each.name.lower() for each in preset.headers}) == len(preset.headers)
    for header in preset.headers:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", header.name)
        assert ("{token}" in header.template) is bool(header.asks)
        assert not (header.is_fixed and (header.is_required or header.is_secret))
        if header.is_secret:
            assert header.found_at
            assert not header.example
        elif header.is_required:
            assert header.example


@EACH
def test_refusals_with_words_stand_before_those_without(preset: Preset) -> None:
    for number, refusal in enumerate(preset.refusals):
        assert 400 <= refusal.status <= 599
        assert refusal.meaning
        assert refusal.remedy
        hidden_by = [e for e in preset.refusals[:number] if e.fits(refusal.status, refusal.words)]
        assert hidden_by == []


@EACH
def test_every_signal_is_taken_or_refused_with_the_fact(preset: Preset) -> None:
    assert {*preset.taken_signals} | {*preset.refuses} == {"traces", "logs", "metrics"}
    assert not {*preset.taken_signals} & {*preset.refuses}
    assert preset.default_signals[0] not in preset.signals
    for signal in preset.refuses:
        with pytest.raises(ConfigError, match=f"takes no {signal}"):
            preset.facts_of(signal)


@EACH
def test_preset_holds_no_secret_and_names_its_documentation(preset: Preset) -> None:
    assert preset.page.startswith("https://")
    # What looks like a token: many letters and digits in one.
    texts = re.findall(r"[A-Za-z0-9]{24,}", repr(preset))
    assert texts == []


@pytest.mark.parametrize(
    ("name", "status", "answer", "part"),
    [
        ("axiom", 403, '{"code":403,"message":"Forbidden"}', "token is wrong"),
        ("axiom", 429, '{"message":"rate limit exceeded"}', "X-RateLimit"),
        ("honeycomb", 401, '{"message":"missing \'x-honeycomb-team\' header"}', "no key"),
        (
            "honeycomb",
            401,
            '{"error":"unknown API key - check your credentials"}',
            "key is unknown",
        ),
        ("tempo", 400, "trace ids must be 128 bit", "whole batch"),
        ("phoenix", 401, '{"detail":"Invalid token"}', "key is unknown"),
        ("phoenix", 415, "Unsupported content type", "protobuf only"),
        ("mlflow", 400, '{"detail":"Invalid OpenTelemetry: No Spans Found"}', "without spans"),
        ("mlflow", 400, "whatever", "protobuf only"),
        ("mlflow", 422, '{"detail":[{"loc":["header","x-mlflow-experiment-id"]}]}', "missing"),
        ("datadog", 413, "", "3.2 MB"),
        ("langfuse", 400, '{"message":"bad"}', "whole batch"),
    ],
)
def test_answer_of_a_backend_is_explained(name: str, status: int, answer: str, part: str) -> None:
    refusal = find(name).explain(status, answer)

    assert refusal is not None
    assert part in refusal.meaning


def test_answer_that_nobody_knows_is_not_explained() -> None:
    assert find("axiom").explain(418, "teapot") is None
    assert find("axiom").explain(429, "other words") is None


def test_facts_that_the_relay_acts_upon() -> None:
    """What was read at the vendors' sources: a change here changes what is sent."""
    assert {p.name for p in PRESETS.values() if p.encoding == "protobuf"} == {
        "datadog", "lightstep", "mlflow", "newrelic", "phoenix", "victoria-logs",
        "victoria-metrics",
    }  # fmt: skip
    assert [p.name for p in PRESETS.values() if p.refuses_empty] == ["mlflow"]
    assert [p.name for p in PRESETS.values() if p.makes_dataset] == ["honeycomb"]
    assert [p.name for p in PRESETS.values() if p.is_sender] == ["openrouter"]
    assert {p.name: p.query for p in PRESETS.values() if p.query} == {
        "jaeger": "jaeger",
        "tempo": "tempo",
    }
    assert find("newrelic").max_batch_bytes == 1_000_000
    assert find("datadog").max_batch_bytes == 3_200_000
    assert find("datadog").success_statuses == (202,)
    assert find("dash0").max_age_seconds == 21_600
    assert find("honeycomb").endpoints == {
        "US": "https://api.honeycomb.io/v1/traces",
        "EU": "https://api.eu1.honeycomb.io/v1/traces",
    }


@pytest.mark.parametrize("name", ["datadog", "lightstep", "newrelic", "dash0", "phoenix"])
def test_what_nobody_confirmed_is_said(name: str) -> None:
    unconfirmed = find(name).unconfirmed

    assert unconfirmed
    assert "## Unconfirmed" in pages()[f"{name}.md"]
    assert all(f"- {text}" in pages()[f"{name}.md"] for text in unconfirmed)


def test_header_template_takes_the_value() -> None:
    header = HeaderField(name="A", template="Basic {token}", asks="it")

    assert header.fill("a{token}$") == "Basic a{token}$"
    assert header.prefix == "Basic "
    assert not header.is_fixed


def test_endpoint_template_takes_values() -> None:
    preset = a_preset(endpoint="http://{host}:1/{space}/{host}")

    assert preset.placeholders == ("host", "space")
    assert preset.fill_endpoint(host="h", space="s") == "http://h:1/s/h"
    with pytest.raises(KeyError):
        preset.fill_endpoint(host="h")


def test_first_refusal_that_fits_counts() -> None:
    first = KnownRefusal(status=400, words="Dataset", meaning="m", remedy="r")
    second = KnownRefusal(status=400, meaning="n", remedy="s")
    preset = a_preset(refusals=(first, second))

    assert preset.explain(400, "no dataset here") is first
    assert preset.explain(400, "") is second
    assert preset.explain(401, "dataset") is None


@EACH_DESTINATION
def test_example_loads_without_a_warning_and_with_what_the_preset_says(
    preset: Preset, tmp_path: Path
) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(toml_of(preset))

    config = load(path, {"HOME": "/home/x", variable_of(preset): "canary"})

    assert config.warnings == ()
    destination = config.destinations[0]
    assert destination.blocked_reason == ""
    assert destination.preset == preset.name
    assert destination.endpoint == preset.example_endpoint
    assert destination.encoding == preset.encoding
    assert set(headers_of(preset)) <= set(destination.headers)
    for key, value in settings_of(preset):
        path.write_text(toml_of(preset) + f'\n{key} = "{value}"\n'.replace('"8192"', "8192"))
        written = load(path, {"HOME": "/home/x", variable_of(preset): "canary"})
        assert written.destinations == config.destinations


def test_example_of_the_sender_loads(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(toml_of(find("openrouter")))

    config = load(path, {"HOME": "/home/x", "OPENROUTER_TOKEN": "canary"})

    assert [token.reveal() for token in config.ingest.tokens] == ["canary"]


@EACH_DESTINATION
def test_command_gives_the_same_as_the_table(preset: Preset) -> None:
    table = tomllib.loads(toml_of(preset))["destinations"][preset.name]
    command = command_of(preset)

    assert command.startswith(f"otlp-relay destination add {preset.name} --preset {preset.name}")
    assert table.get("endpoint", "") in command
    for name, value in table.get("headers", {}).items():
        assert f"--header '{name}={value}'" in command


def test_every_preset_has_its_page_and_each_is_what_the_data_say() -> None:
    assert wrong_pages(FOLDER) == []
    assert {path.stem for path in FOLDER.glob("*.md")} == {"README", *NAMES}


def test_page_that_was_changed_by_hand_is_found(tmp_path: Path) -> None:
    for name, text in pages().items():
        (tmp_path / name).write_text(text)
    assert wrong_pages(tmp_path) == []

    (tmp_path / "axiom.md").write_text(pages()["axiom.md"] + "x")
    (tmp_path / "jaeger.md").unlink()
    (tmp_path / "other.md").write_text("")

    assert wrong_pages(tmp_path) == ["axiom.md", "jaeger.md", "other.md"]


def test_check_of_the_pages_passes_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.preset_pages", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@EACH
def test_page_shows_all_of_the_preset(preset: Preset) -> None:
    page = pages()[f"{preset.name}.md"]

    texts = [preset.title, *preset.all_endpoints, *preset.notes, *preset.unconfirmed, preset.page]
    texts += [each.name for each in preset.headers]
    texts += [each.remedy for each in preset.refusals]
    assert [text for text in texts if text not in page] == []
    assert all(each.found_at in page.replace(r"\|", "|") for each in preset.headers)
    assert f"[`{preset.name}`]({preset.name}.md)" in pages()["README.md"]


@EACH
def test_tables_of_a_page_have_as_many_cells_in_each_line(preset: Preset) -> None:
    for table in re.findall(r"(?m)(?:^\|.*\n)+", pages()[f"{preset.name}.md"]):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1
