"""Whatever the file says: a Config, or a ConfigError that repeats no secret."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config import Config, keys
from relay.config.fields import Key
from relay.config.fleet_keys import FLEET_KEYS
from relay.config.load import load
from relay.config.sample_keys import SAMPLE_KEYS
from relay.model.errors import ConfigError
from tests.support.examples import examples

MARK = f"value-{7}-of-S"  # no constant: hypothesis tries those of this file too
# Outside of the surrogates, which no TOML file can hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REFERENCES = st.sampled_from(
    ["${env:S}", "${env:NOPE}", "${file:absent}", "${credential:x}", "${", "$$", "x${a:b}"]
)
ALMOST_RIGHT = st.sampled_from(
    [
        *["localhost:1", "[::1]:0", "64MiB", "1h", "0s", "forever", "auto", "json", "full", "host"],
        *["https://h/v1/traces", "http://u:p@h:1/x?y#z", "http://[::1", "//", "relay.toml", "."],
    ]
)
SCALARS = (
    TEXTS
    | REFERENCES
    | ALMOST_RIGHT
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.datetimes()
    | st.dates()
    | st.times()
)
NAMES = TEXTS | st.sampled_from(["A", "a", "Authorization", "content-type", "x y"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)


def table(known: dict[str, Key]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(list(known)) | TEXTS, VALUES, max_size=5)


SAMPLED = st.fixed_dictionaries({"sample": table(SAMPLE_KEYS) | VALUES})
DESTINATIONS = st.dictionaries(NAMES, table(keys.DESTINATION_KEYS) | SAMPLED | VALUES, max_size=3)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "state_dir": VALUES,
        "destinations_dir": VALUES,
        "destinations_from_env": st.booleans() | VALUES,
        "ingest": table(keys.INGEST_KEYS) | VALUES,
        "enrich": table(keys.ENRICH_KEYS) | VALUES,
        "buffer": table(keys.BUFFER_KEYS) | VALUES,
        "admin": table(keys.ADMIN_KEYS) | VALUES,
        "telemetry": table(keys.TELEMETRY_KEYS) | VALUES,
        "fleet": table(FLEET_KEYS) | VALUES,
        "destinations": DESTINATIONS | VALUES,
        "destination": VALUES,
    },
)


def toml(value: object) -> str:
    """A value as inline TOML; JSON's escapes are TOML's, but for one character."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def attempt(folder: Path, text: str, **environ: str) -> Config | ConfigError:
    path = folder / "relay.toml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        return load(path, {"HOME": str(folder), "S": MARK, **environ})
    except ConfigError as error:
        return error


@settings(max_examples=examples(400), deadline=None)
@given(document=DOCUMENTS)
def test_any_tables_make_a_config_or_a_config_error(folder: Path, document: dict[str, Any]) -> None:
    text = "".join(f"{key} = {toml(value)}\n" for key, value in document.items())

    outcome = attempt(folder, text)

    shown = outcome if isinstance(outcome, ConfigError) else outcome.destinations
    assert MARK not in f"{shown} {shown!r}"
    assert "is no TOML" not in str(outcome)  # else this would test the parser only


@settings(max_examples=examples(200), deadline=None)
@given(text=TEXTS | st.lists(TEXTS | ALMOST_RIGHT, max_size=8).map(" = ".join))
def test_any_text_makes_a_config_or_a_config_error(folder: Path, text: str) -> None:
    attempt(folder, text)


@settings(max_examples=examples(200), deadline=None)
@given(
    variables=st.dictionaries(
        st.sampled_from(["ENDPOINT", "HEADERS", "PROTOCOL", "COMPRESSION", "CERTIFICATE"]).flatmap(
            lambda name: st.sampled_from([name, f"TRACES_{name}"])
        ),
        st.text(max_size=30) | ALMOST_RIGHT | st.sampled_from(["a=b", "a=%0a", "=", "a=b,A=c"]),
    )
)
def test_any_variables_make_a_config_or_a_config_error(
    folder: Path, variables: dict[str, str]
) -> None:
    environ = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}

    attempt(folder, "destinations_from_env = true", **environ)
