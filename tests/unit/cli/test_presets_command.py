import json

import pytest
from click.testing import CliRunner, Result

from relay.cli.destination_presets import lines_of, presets
from relay.config.presets import PRESETS, find


def run(*arguments: str) -> Result:
    return CliRunner().invoke(presets, arguments)


def test_list_has_a_line_a_preset() -> None:
    result = run()

    assert result.exit_code == 0
    title, *lines = result.stdout.splitlines()
    assert title.split() == ["NAME", "WHAT", "IT", "IS", "SIGNALS", "HEADERS", "ENCODING"]
    assert [line.split()[0] for line in lines] == list(PRESETS)
    axiom, phoenix = (next(x for x in lines if x.startswith(n)) for n in ("axiom", "phoenix"))
    assert " ".join(axiom.split()) == (
        "axiom Axiom traces, logs, metrics Authorization, X-Axiom-Dataset auto"
    )
    assert "\ttraces\t" in phoenix
    assert "(Authorization), (x-project-name)" in phoenix
    assert phoenix.split()[-1] == "protobuf"


@pytest.mark.parametrize("name", list(PRESETS))
def test_one_preset_is_shown_with_everything(name: str) -> None:
    result = run(name)

    preset = find(name)
    assert result.exit_code == 0
    parts = [preset.title, *preset.all_endpoints, *preset.notes, *preset.unconfirmed, preset.page]
    parts += [part for each in preset.refusals for part in (each.meaning, each.remedy)]
    parts += [part for each in preset.headers for part in (each.name, each.asks, each.found_at)]
    for word, facts in preset.signals.items():
        parts += [f"{word}: {preset.endpoint_of(word)}", *facts.notes]
        parts += [part for each in facts.refusals for part in (each.meaning, each.remedy)]
        parts += [part for each in facts.headers for part in (each.name, each.asks)]
    if not preset.is_sender:
        parts += [f"not {word}: {fact}" for word, fact in preset.refuses.items()]
    assert [part for part in parts if part not in result.stdout] == []


def test_settings_of_a_signal_are_shown_with_it() -> None:
    shown = " ".join(run("axiom").stdout.split())

    assert (
        "metrics: https://api.axiom.co/v1/metrics "
        'encoding = "protobuf" max_batch_bytes = "4MiB"' in shown
    )
    assert 'temporality = "delta"' in run("datadog").stdout


def test_one_preset_ends_with_what_can_be_copied() -> None:
    assert run("axiom").stdout.endswith(
        """
[destinations.axiom]
preset = "axiom"
headers = { Authorization = "Bearer ${env:AXIOM_TOKEN}", X-Axiom-Dataset = "traces" }

otlp-relay destination add axiom --preset axiom \\
  --header 'Authorization=Bearer ${env:AXIOM_TOKEN}' \\
  --header 'X-Axiom-Dataset=traces'
"""
    )


def test_sender_has_no_command_that_adds_it() -> None:
    result = run("openrouter")

    assert "[ingest]" in result.stdout
    assert "destination add" not in result.stdout


def test_lines_are_folded_for_a_narrow_terminal() -> None:
    described = lines_of(find("honeycomb"), 72)[: -len(["", "", "", "", "", ""])]

    assert max(len(line) for line in described) <= 72
    joined = " ".join(" ".join(described).split())
    assert all(note in joined for note in find("honeycomb").notes)


def test_json_list_has_all_presets_and_json_of_one_is_the_same() -> None:
    everything = json.loads(run("--json").stdout)
    one = json.loads(run("datadog", "--json").stdout)

    assert [each["name"] for each in everything] == list(PRESETS)
    assert one in everything
    assert one["placeholders"] == ["site"]
    assert one["max_batch_bytes"] == 3_200_000
    assert one["success_statuses"] == [202]
    assert one["headers"][0]["name"] == "dd-api-key"
    assert one["unconfirmed"]


def test_unknown_name_is_wrong_usage_with_the_nearest() -> None:
    result = run("axoim")

    assert result.exit_code == 2
    assert "no preset 'axoim': did you mean axiom?" in result.stderr
    assert result.stdout == ""
