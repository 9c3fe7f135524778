"""Flags become the table that a file would have; what is missing is named, values never are."""

import io
import os
from pathlib import Path
from typing import Any

import click
import pytest

from relay.cli.destination_ask import fill_gaps, preset_of
from relay.cli.destination_flags import FLAGS, headers_of, table_of
from relay.cli.destination_names import exit_unknown
from relay.config import Config
from relay.config.keys import DESTINATION_KEYS

CANARY = "s3cr3t-canary"


def test_every_key_of_a_destination_is_a_flag() -> None:
    apart = {"headers", "logs_headers", "metrics_headers", "paused"}
    apart |= {"redact", "attributes"}  # tables
    assert {*FLAGS, *apart} == DESTINATION_KEYS.keys()


def test_headers_of_one_signal_are_flags_of_their_own() -> None:
    table = table_of({"logs_headers": ("X-Set=logs",), "metrics_headers": ("X-Set=",)})

    assert table == {"logs_headers": {"X-Set": "logs"}, "metrics_headers": {"X-Set": ""}}


def test_table_holds_what_was_given_and_nothing_else() -> None:
    flags: dict[str, Any] = dict.fromkeys(FLAGS)
    flags |= {"endpoint": "http://x/v1/traces", "timeout": "5s", "header": (), "headers": None}

    assert table_of(flags) == {"endpoint": "http://x/v1/traces", "timeout": "5s"}
    assert table_of({**flags, "paused": True})["paused"] is True


def test_path_starts_where_the_command_is_typed_unless_it_is_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = table_of({"ca_file": "ca.pem", "client_key": "${env:DIR}/key.pem"})

    assert table == {
        "ca_file": os.fspath(tmp_path / "ca.pem"),
        "client_key": "${env:DIR}/key.pem",
    }


@pytest.mark.parametrize(
    ("single", "as_json", "headers"),
    [
        (["A=b"], "", {"A": "b"}),
        (["Authorization=Bearer a=b:c"], "", {"Authorization": "Bearer a=b:c"}),
        (["X-Key: value"], "", {"X-Key": "value"}),
        ([], '{"A": "b", "C": "${env:D}"}', {"A": "b", "C": "${env:D}"}),
        (["E=f"], '{"A": "b"}', {"A": "b", "E": "f"}),
    ],
)
def test_headers_are_taken_singly_and_as_json(
    single: list[str], as_json: str, headers: dict[str, str]
) -> None:
    assert headers_of(single, as_json) == headers


@pytest.mark.parametrize(
    ("single", "as_json", "words"),
    [
        ([CANARY], "", "NAME=VALUE"),
        ([f"A={CANARY}", f"a={CANARY}"], "", "a is given twice"),
        ([], f'{{"A": "{CANARY}", "A": "{CANARY}"}}', "A is given twice"),
        ([], f'{{"A": "{CANARY}"', "one JSON object"),
        ([], f'["{CANARY}"]', "one JSON object"),
        ([], f'{{"A": {{"{CANARY}": 1}}}}', "must be a string"),
        (["A="], "", "single quotes"),
        (["Authorization=Bearer "], "", "single quotes"),
    ],
)
def test_header_that_cannot_be_read_is_refused_without_its_value(
    single: list[str], as_json: str, words: str
) -> None:
    with pytest.raises(click.UsageError, match=words) as caught:
        headers_of(single, as_json)

    assert CANARY not in caught.value.message
    assert CANARY not in repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("table", "flags"),
    [
        ({}, ["--endpoint", "--preset"]),
        ({"preset": "axiom"}, ["--header 'Authorization=Bearer …'", "X-Axiom-Dataset"]),
        ({"preset": "jaeger"}, ["--endpoint", "http://{host}:4318/v1/traces"]),
    ],
)
def test_gap_is_named_with_its_flag_where_nobody_can_be_asked(
    table: dict[str, Any], flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(click.UsageError) as caught:
        fill_gaps(table, preset_of(table))

    for flag in flags:
        assert flag in caught.value.message


def test_preset_that_is_unknown_or_a_sender_is_told_with_what_is_right() -> None:
    with pytest.raises(click.UsageError, match="did you mean axiom"):
        preset_of({"preset": "axoim"})
    with pytest.raises(click.UsageError, match="destination presets openrouter"):
        preset_of({"preset": "openrouter"})


def test_unknown_destination_is_told_with_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = Config(state_dir=tmp_path)
    with pytest.raises(SystemExit) as caught:
        exit_unknown("x", config)

    assert caught.value.code == 1
    assert "there are: none" in capsys.readouterr().err
