from pathlib import Path

import pytest

from relay.config import MIB, Config, DestinationConfig
from relay.config.load import load
from relay.model.errors import ConfigError

CANARY = "canary-s3cr3t"
AXIOM = """[destinations.up]
preset = "axiom"
headers = { Authorization = "Bearer ${env:T}", X-Axiom-Dataset = "traces" }
"""


def read(folder: Path, text: str) -> Config:
    path = folder / "relay.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load(path, {"HOME": "/home/x", "T": CANARY})


def only(folder: Path, text: str) -> DestinationConfig:
    (destination,) = read(folder, text).destinations
    return destination


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    assert CANARY not in str(caught.value)
    prefix = f"{folder / 'relay.toml'}: destinations.up."
    return [line.removeprefix(prefix) for line in str(caught.value).splitlines()]


def with_header(preset: str, header: str, more: str = "") -> str:
    return f'[destinations.up]\npreset = "{preset}"\nheaders = {{ {header} }}\n{more}'


def test_preset_fills_endpoint_and_keeps_the_rest_as_it_is(tmp_path: Path) -> None:
    axiom = only(tmp_path, AXIOM)

    assert axiom.preset == "axiom"
    assert axiom.endpoint == "https://api.axiom.co/v1/traces"
    assert (axiom.encoding, axiom.compression) == ("auto", "auto")
    assert (axiom.max_batch_bytes, axiom.max_batch_items) == (4 * MIB, 8192)
    assert list(axiom.headers) == ["Authorization", "X-Axiom-Dataset"]


def test_preset_fills_encoding_and_limits(tmp_path: Path) -> None:
    newrelic = only(tmp_path, with_header("newrelic", 'api-key = "${env:T}"'))

    assert newrelic.encoding == "protobuf"
    assert newrelic.max_batch_bytes == 1_000_000


def test_preset_fills_the_age(tmp_path: Path) -> None:
    text = with_header(
        "dash0",
        'Authorization = "Bearer ${env:T}"',
        'endpoint = "https://ingress.x.aws.dash0.com/v1/traces"',
    )

    config = read(tmp_path, text)

    assert config.destinations[0].max_age_seconds == 6 * 3600
    assert config.warnings == ()


def test_what_is_written_wins_over_the_preset(tmp_path: Path) -> None:
    more = """endpoint = "https://otlp.eu01.nr-data.net/v1/traces"
encoding = "auto"
compression = "none"
max_batch_bytes = "4MiB"
max_batch_items = 7
"""

    newrelic = only(tmp_path, with_header("newrelic", 'Api-Key = "${env:T}"', more))

    assert newrelic.endpoint == "https://otlp.eu01.nr-data.net/v1/traces"
    assert (newrelic.encoding, newrelic.compression) == ("auto", "none")
    assert (newrelic.max_batch_bytes, newrelic.max_batch_items) == (4 * MIB, 7)
    assert list(newrelic.headers) == ["Api-Key"]


def test_fixed_header_is_filled_in(tmp_path: Path) -> None:
    langfuse = only(tmp_path, with_header("langfuse", 'Authorization = "Basic ${env:T}"'))

    assert langfuse.headers["x-langfuse-ingestion-version"].reveal() == "4"


def test_fixed_header_that_is_written_wins_in_any_case_of_letters(tmp_path: Path) -> None:
    text = with_header(
        "langfuse", 'Authorization = "Basic ${env:T}", X-Langfuse-Ingestion-Version = "5"'
    )

    headers = only(tmp_path, text).headers

    assert list(headers) == ["Authorization", "X-Langfuse-Ingestion-Version"]
    assert headers["X-Langfuse-Ingestion-Version"].reveal() == "5"


def test_optional_header_may_be_absent(tmp_path: Path) -> None:
    text = '[destinations.up]\npreset = "phoenix"\nendpoint = "http://localhost:6006/v1/traces"\n'

    phoenix = only(tmp_path, text)

    assert phoenix.headers == {}
    assert phoenix.encoding == "protobuf"


def test_missing_required_headers_are_problems_that_say_what_goes_in(tmp_path: Path) -> None:
    first, second = problems(tmp_path, '[destinations.up]\npreset = "axiom"')

    assert first.startswith(
        'headers: preset axiom needs header Authorization = "Bearer {token}", '
        "{token} being: API token (xaat-…) (it is found at: the settings"
    )
    assert second.startswith(
        'headers: preset axiom needs header X-Axiom-Dataset = "{token}", '
        "{token} being: name of the data set"
    )


@pytest.mark.parametrize("value", ["", "{token}"])
def test_required_header_that_says_nothing_is_a_problem(tmp_path: Path, value: str) -> None:
    text = AXIOM.replace('"traces"', f'"{value}"')

    (problem,) = problems(tmp_path, text)

    assert problem.startswith("headers: preset axiom needs header X-Axiom-Dataset")


def test_headers_with_a_fault_are_not_called_missing_too(tmp_path: Path) -> None:
    text = '[destinations.up]\npreset = "axiom"\nheaders = "A=b"'

    assert len(problems(tmp_path, text)) == 1


def test_header_of_the_preset_is_known_in_any_case_of_letters(tmp_path: Path) -> None:
    text = AXIOM.replace("Authorization", "authorization").replace(
        "X-Axiom-Dataset", "x-axiom-dataset"
    )

    assert list(only(tmp_path, text).headers) == ["authorization", "x-axiom-dataset"]


@pytest.mark.parametrize(
    ("preset", "parts"),
    [
        ("jaeger", ["the host", "http://{host}:4318/v1/traces", "http://localhost:14318/"]),
        ("signoz", ["the region", "https://ingest.eu.signoz.cloud:443/v1/traces"]),
        ("datadog", ["the site", "https://otlp.{site}/v1/traces"]),
    ],
)
def test_endpoint_with_a_gap_has_to_be_written(
    tmp_path: Path, preset: str, parts: list[str]
) -> None:
    (problem,) = problems(tmp_path, with_header(preset, 'dd-api-key = "${env:T}"'))

    assert problem.startswith(f"endpoint: is missing: preset {preset} cannot know")
    assert [part for part in parts if part not in problem] == []


def test_endpoint_with_the_gap_still_in_it_is_a_problem(tmp_path: Path) -> None:
    text = '[destinations.up]\npreset = "jaeger"\nendpoint = "http://{host}:4318/v1/traces"'

    (problem,) = problems(tmp_path, text)

    assert problem.startswith("endpoint: still has {host} in it")


def test_unknown_preset_is_a_problem_with_the_nearest(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[destinations.up]\npreset = "honycomb"')

    assert problem == "preset: there is no preset 'honycomb' (did you mean honeycomb?)"


def test_sender_is_no_destination(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[destinations.up]\npreset = "openrouter"')

    assert problem.startswith("preset: openrouter sends spans to this relay and takes none")


def test_empty_preset_is_none(tmp_path: Path) -> None:
    text = '[destinations.up]\npreset = ""\nendpoint = "https://up.example/v1/traces"'

    assert only(tmp_path, text).preset is None


def test_preset_by_a_reference_works_and_blocks_when_it_is_not_set(tmp_path: Path) -> None:
    text = AXIOM.replace('"axiom"', '"${env:WHICH}"')
    path = tmp_path / "relay.toml"
    path.write_text(text)

    (found,) = load(path, {"HOME": "/home/x", "T": CANARY, "WHICH": "axiom"}).destinations
    (blocked,) = load(path, {"HOME": "/home/x", "T": CANARY}).destinations

    assert found.endpoint == "https://api.axiom.co/v1/traces"
    assert "${env:WHICH} is not set" in blocked.blocked_reason


def test_unset_secret_blocks_a_destination_with_a_preset(tmp_path: Path) -> None:
    destination = only(tmp_path, AXIOM.replace("env:T", "env:ABSENT"))

    assert "${env:ABSENT} is not set" in destination.blocked_reason
    assert destination.endpoint == "https://api.axiom.co/v1/traces"


@pytest.mark.parametrize(
    ("value", "is_warned"),
    [
        ("${env:T}", True),
        ("Basic ${env:T}", True),
        ("Bearer ${env:T}", False),
        ("bearer ${env:T}", False),
    ],
)
def test_token_without_its_scheme_is_warned_of(tmp_path: Path, value: str, is_warned: bool) -> None:
    config = read(tmp_path, AXIOM.replace("Bearer ${env:T}", value))

    warned = [w for w in config.warnings if 'does not begin with "Bearer "' in w]
    assert bool(warned) is is_warned
    assert CANARY not in "".join(config.warnings)


def test_preset_does_not_hide_that_the_endpoint_is_the_relay(tmp_path: Path) -> None:
    text = '[destinations.up]\npreset = "tempo"\nendpoint = "http://localhost:4318/v1/traces"'

    (problem,) = problems(tmp_path, text)

    assert "is this relay itself" in problem
