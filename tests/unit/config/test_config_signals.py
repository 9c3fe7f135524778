"""What a destination is for each signal: where it goes, with which headers, how."""

from pathlib import Path

import pytest

from relay.config import Config, DestinationConfig
from relay.config.load import load
from relay.config.tables import ConfigProblems, one_line
from relay.model.records import Signal

TRACES, LOGS, METRICS = Signal
ALL = 'signals = ["traces", "logs", "metrics"]'
AXIOM = 'preset = "axiom"\nheaders = { Authorization = "Bearer t", X-Axiom-Dataset = "d" }'


def read(folder: Path, table: str, top: str = "") -> Config:
    path = folder / "relay.toml"
    path.write_text(f"{top}\n[destinations.x]\n{table}\n" if table else top)
    return load(path, {"HOME": "/home/x"})


def views(folder: Path, table: str) -> dict[Signal, DestinationConfig]:
    return {view.signal: view for view in read(folder, table).destinations[0].views}


def problems(folder: Path, table: str) -> str:
    with pytest.raises(ConfigProblems) as caught:
        read(folder, table)
    return "\n".join(one_line(each) for each in caught.value.problems)


def test_destination_that_says_nothing_gets_traces_as_before(tmp_path: Path) -> None:
    config = read(tmp_path, 'endpoint = "https://c.example/v1/traces"')

    (view,) = config.destinations[0].views
    assert view is config.destinations[0]
    assert view.signal is TRACES
    assert config.taken_signals == (TRACES,)


@pytest.mark.parametrize("base", ["https://c.example", "https://c.example/otlp", "http://[::1]:4"])
def test_endpoints_of_other_signals_follow_from_that_for_traces(tmp_path: Path, base: str) -> None:
    found = views(tmp_path, f'{ALL}\nendpoint = "{base}/v1/traces"')

    assert {s: v.endpoint for s, v in found.items()} == {
        TRACES: f"{base}/v1/traces",
        LOGS: f"{base}/v1/logs",
        METRICS: f"{base}/v1/metrics",
    }


def test_endpoint_that_does_not_tell_the_others_is_a_problem_that_names_the_key(
    tmp_path: Path,
) -> None:
    said = problems(tmp_path, f'{ALL}\nendpoint = "https://c.example/ingest"')

    assert "destinations.x.logs_endpoint: is missing" in said
    assert "destinations.x.metrics_endpoint: is missing" in said
    assert "/v1/traces" in said


def test_written_endpoints_are_taken_as_they_are(tmp_path: Path) -> None:
    found = views(
        tmp_path,
        f'{ALL}\nendpoint = "https://c.example/t"\nlogs_endpoint = "https://l.example/l"\n'
        'metrics_endpoint = "https://m.example/m"',
    )

    assert [view.endpoint for view in found.values()] == [
        "https://c.example/t",
        "https://l.example/l",
        "https://m.example/m",
    ]


def test_endpoint_of_a_destination_for_one_other_signal_is_for_that(tmp_path: Path) -> None:
    found = views(tmp_path, 'signals = ["logs"]\nendpoint = "https://c.example/v1/logs"')
    assert [(v.signal, v.endpoint) for v in found.values()] == [(LOGS, "https://c.example/v1/logs")]

    found = views(tmp_path, 'signals = ["logs"]\nlogs_endpoint = "https://c.example/v1/logs"')
    assert found[LOGS].endpoint == "https://c.example/v1/logs"


def test_both_names_of_a_key_are_a_problem_and_either_is_the_key(tmp_path: Path) -> None:
    url = "https://c.example/v1/traces"
    assert read(tmp_path, f'traces_endpoint = "{url}"').destinations[0].endpoint == url
    assert "leave one out" in problems(tmp_path, f'endpoint = "{url}"\ntraces_endpoint = "{url}"')
    old = read(tmp_path, f'endpoint = "{url}"\nmax_batch_spans = 7').destinations[0]
    assert old.max_batch_items == 7


def test_headers_of_a_signal_lie_over_the_common_ones(tmp_path: Path) -> None:
    found = views(
        tmp_path,
        f'{ALL}\nendpoint = "https://c.example/v1/traces"\n'
        'headers = { Authorization = "Bearer t", X-Set = "common" }\n'
        'logs_headers = { x-set = "logs" }\nmetrics_headers = { X-Set = "", Extra = "1" }',
    )

    def shown(signal: Signal) -> dict[str, str]:
        return {name: value.reveal() for name, value in found[signal].headers.items()}

    assert shown(TRACES) == {"Authorization": "Bearer t", "X-Set": "common"}
    assert shown(LOGS) == {"Authorization": "Bearer t", "x-set": "logs"}
    assert shown(METRICS) == {"Authorization": "Bearer t", "Extra": "1"}


def test_preset_knows_each_signal(tmp_path: Path) -> None:
    found = views(
        tmp_path, f'{AXIOM}\n{ALL}\nmetrics_headers = {{ X-Axiom-Metrics-Dataset = "m" }}'
    )

    assert found[LOGS].endpoint == "https://api.axiom.co/v1/logs"
    assert "X-Axiom-Dataset" in found[LOGS].headers
    assert found[LOGS].encoding == "auto"
    assert found[METRICS].endpoint == "https://api.axiom.co/v1/metrics"
    assert sorted(found[METRICS].headers) == ["Authorization", "X-Axiom-Metrics-Dataset"]
    assert found[METRICS].encoding == "protobuf"
    assert found[METRICS].max_batch_bytes == 4 * 2**20
    assert found[METRICS].concurrency == 1


def test_header_that_one_signal_needs_is_named_with_its_key(tmp_path: Path) -> None:
    said = problems(tmp_path, f"{AXIOM}\n{ALL}")

    assert "destinations.x.metrics_headers: preset axiom needs header X-Axiom-Metrics" in said


def test_region_of_the_endpoint_counts_for_every_signal(tmp_path: Path) -> None:
    url = "https://eu-central-1.aws.edge.axiom.co/v1/traces"
    found = views(tmp_path, f'{AXIOM}\nsignals = ["traces", "logs"]\nendpoint = "{url}"')

    assert found[LOGS].endpoint == url.replace("traces", "logs")


def test_signal_that_the_backend_does_not_take_is_a_problem_with_the_fact(tmp_path: Path) -> None:
    said = problems(
        tmp_path, f'preset = "jaeger"\n{ALL}\nendpoint = "http://j.example:4318/v1/traces"'
    )

    assert "destinations.x.signals: preset jaeger takes no logs: it stores traces only" in said
    assert "preset jaeger takes no metrics" in said


def test_backend_for_one_signal_gets_that_without_a_word(tmp_path: Path) -> None:
    url = "http://p.example:9090/api/v1/otlp/v1/metrics"
    config = read(tmp_path, f'preset = "prometheus"\nendpoint = "{url}"')

    (view,) = config.destinations[0].views
    assert (view.signal, view.endpoint, view.temporality) == (METRICS, url, "cumulative")
    assert config.taken_signals == (METRICS,)


def test_temporality_is_the_presets_unless_it_is_written(tmp_path: Path) -> None:
    datadog = (
        'preset = "datadog"\nendpoint = "https://otlp.datadoghq.com/v1/traces"\n'
        f'headers = {{ dd-api-key = "k" }}\n{ALL}'
    )

    assert views(tmp_path, datadog)[METRICS].temporality == "delta"
    assert views(tmp_path, f'{datadog}\ntemporality = "any"')[METRICS].temporality == "any"
    assert views(tmp_path, datadog)[LOGS].encoding == "protobuf"
    assert views(tmp_path, f'{datadog}\nencoding = "json"')[LOGS].encoding == "json"


def test_secret_of_one_signal_blocks_that_signal_only(tmp_path: Path) -> None:
    found = views(
        tmp_path,
        f'{ALL}\nendpoint = "https://c.example/v1/traces"\nlogs_headers = {{ A = "${{env:NO}}" }}',
    )

    assert "NO" in found[LOGS].blocked_reason
    assert found[TRACES].blocked_reason == found[METRICS].blocked_reason == ""


@pytest.mark.parametrize("wrong", ['["spans"]', "[]", "3", '"traces,log"'])
def test_signals_that_are_none_are_a_problem(tmp_path: Path, wrong: str) -> None:
    said = problems(tmp_path, f'endpoint = "https://c.example/v1/traces"\nsignals = {wrong}')

    assert "traces" in said
    assert "logs" in said


def test_ingest_takes_what_somebody_wants_and_everything_where_there_is_nobody(
    tmp_path: Path,
) -> None:
    logs = 'signals = ["logs"]\nendpoint = "https://c.example/v1/logs"'

    assert read(tmp_path, "").taken_signals == (TRACES, LOGS, METRICS)
    assert read(tmp_path, logs).taken_signals == (LOGS,)
    own = read(tmp_path, logs, '[ingest]\nsignals = ["traces", "logs"]')
    assert own.taken_signals == (TRACES, LOGS)


def test_loop_of_one_signal_is_found(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        'signals = ["traces", "logs"]\nendpoint = "https://c.example/v1/traces"\n'
        'logs_endpoint = "http://localhost:4318/v1/logs"',
    )

    assert "is this relay itself" in said
