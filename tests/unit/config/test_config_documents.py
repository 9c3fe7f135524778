"""Each option is documented, stands in the example, and the example tells the true defaults."""

import re
from pathlib import Path

import pytest
from msgspec.structs import fields

from relay.config import (
    AdminConfig,
    BufferConfig,
    Config,
    DestinationConfig,
    EnrichConfig,
    IngestConfig,
    TelemetryConfig,
    keys,
)
from relay.config.fields import Key
from relay.config.fleet import FleetConfig, SaslConfig
from relay.config.fleet_keys import FLEET_KEYS
from relay.config.load import load
from relay.config.sample import SampleConfig
from relay.config.sample_keys import SAMPLE_KEYS
from relay.config.secrets import Secret
from relay.config.step_keys import PROCESS_KEYS
from relay.config.steps import ProcessConfig

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "relay" / "config" / "example.toml"
DOCUMENT = ROOT / "docs" / "configuration.md"

# Heading in the document, struct, its keys, and its fields that are no keys.
TABLES = [
    ("Top level", Config, keys.TOP_KEYS,
     {"ingest", "enrich", "buffer", "admin", "telemetry", "fleet", "process", "destinations",
      "says_signals", "source", "warnings"}),
    ("`[ingest]`", IngestConfig, keys.INGEST_KEYS, set()),
    ("`[enrich]`", EnrichConfig, keys.ENRICH_KEYS, set()),
    ("`[buffer]`", BufferConfig, keys.BUFFER_KEYS, set()),
    ("`[admin]`", AdminConfig, keys.ADMIN_KEYS, set()),
    ("`[telemetry]`", TelemetryConfig, keys.TELEMETRY_KEYS, set()),
    ("`[fleet]`", FleetConfig, FLEET_KEYS, set()),
    ("`[process]`", ProcessConfig, PROCESS_KEYS, set()),
    ("`[destinations.NAME]`", DestinationConfig, keys.DESTINATION_KEYS,
     {"name", "signal", "by_signal", "source", "folder", "blocked_reason", "reload_reason",
      "sample"}),
    ("`[destinations.NAME.sample]`", SampleConfig, SAMPLE_KEYS, set()),
]  # fmt: skip


def uncommented() -> str:
    """The example with every option in force: `#key = …` is an option, `# words` are words."""
    return re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE.read_text())


def section(text: str, start: str, level: str) -> str:
    """What follows the line that begins with `start`, up to the next of its level."""
    assert f"\n{start}" in text, start
    return text.split(f"\n{start}", 1)[1].split(f"\n{level}", 1)[0]


@pytest.mark.parametrize(("heading", "struct", "table", "no_keys"), TABLES)
def test_every_field_has_one_key(
    heading: str, struct: type, table: dict[str, Key], no_keys: set[str]
) -> None:
    filled = [key.field for key in table.values()]

    assert sorted(filled) == sorted({field.name for field in fields(struct)} - no_keys)


@pytest.mark.parametrize(("heading", "struct", "table", "no_keys"), TABLES)
def test_every_key_is_documented_and_no_other(
    heading: str, struct: type, table: dict[str, Key], no_keys: set[str]
) -> None:
    body = section(DOCUMENT.read_text(), f"## {heading}", "##")

    documented = re.findall(r"(?m)^\| `([a-z_]+)` \|", body)
    assert documented == list(table)


@pytest.mark.parametrize(("heading", "struct", "table", "no_keys"), TABLES)
def test_every_key_is_in_the_example(
    heading: str, struct: type, table: dict[str, Key], no_keys: set[str]
) -> None:
    text = "\n" + EXAMPLE.read_text()
    start = heading.strip("`").replace("NAME", "example")
    body = text.split("\n#[", 1)[0] if heading == "Top level" else section(text, f"#{start}", "#[")

    assert re.findall(r"(?m)^#([a-z_]+) = ", body) == list(table)


def test_example_loads_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(EXAMPLE.read_text())

    config = load(tmp_path / "relay.toml", {"HOME": "/home/x"})

    assert config.destinations == ()
    assert config.warnings == ()


def test_example_uncommented_says_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(uncommented())

    config = load(path, {"HOME": "/home/x", "EXAMPLE_TOKEN": "t", "KAFKA_PASSWORD": "k"})

    endpoint = "https://collector.example:4318/v1/traces"
    example = DestinationConfig(
        name="example",
        endpoint=endpoint,
        headers={"Authorization": Secret("Bearer ${env:EXAMPLE_TOKEN}")},
        source=path,
        folder=tmp_path,
    )
    assert config == Config(
        state_dir=Path("/var/lib/otlp-relay"),
        destinations_dir=tmp_path / "destinations.d",
        fleet=FleetConfig(
            brokers=("k1:9092", "k2:9092", "k3:9092"),
            sasl=SaslConfig(username="relay", password=Secret("k")),
        ),
        destinations=(example,),
        says_signals=True,
        source=path,
    )


@pytest.mark.parametrize(("heading", "struct", "table", "no_keys"), TABLES)
def test_documented_defaults_are_those_of_the_example(
    heading: str, struct: type, table: dict[str, Key], no_keys: set[str]
) -> None:
    body = section(DOCUMENT.read_text(), f"## {heading}", "##")
    documented = dict(re.findall(r"(?m)^\| `([a-z_]+)` \| `([^`]+)` \|", body))
    text = "\n" + EXAMPLE.read_text()
    start = heading.strip("`").replace("NAME", "example")
    example = dict(
        re.findall(
            r"(?m)^#([a-z_]+) = (.*)$",
            text.split("\n#[", 1)[0]
            if heading == "Top level"
            else section(text, f"#{start}", "#["),
        )
    )

    for key in table.keys() - {"state_dir", "endpoint", "headers", "brokers", "sasl"}:
        assert documented[key] == example[key]
