from pathlib import Path

import pytest

from relay.config import Config, resolve_headers
from relay.config.load import load
from relay.model.errors import ConfigError

BASE = "OTEL_EXPORTER_OTLP_"


def loaded(tmp_path: Path, **variables: str) -> Config:
    path = tmp_path / "relay.toml"
    path.write_text("destinations_from_env = true")
    environ = {BASE + name: value for name, value in variables.items()}
    return load(path, {"HOME": str(tmp_path), **environ})


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"ENDPOINT": "http://up:4318"}, "http://up:4318/v1/traces"),
        ({"ENDPOINT": "http://up:4318/"}, "http://up:4318/v1/traces"),
        ({"ENDPOINT": "https://up/base/?k=v"}, "https://up/base/v1/traces?k=v"),
        ({"TRACES_ENDPOINT": "https://up/as/it/is"}, "https://up/as/it/is"),
        ({"TRACES_ENDPOINT": "https://up"}, "https://up/"),
        ({"TRACES_ENDPOINT": "https://a/x", "ENDPOINT": "https://b"}, "https://a/x"),
        ({"TRACES_ENDPOINT": "", "ENDPOINT": "https://b"}, "https://b/v1/traces"),
        ({"TRACES_ENDPOINT": "https://up/$x"}, "https://up/$x"),
    ],
)
def test_endpoint_variable_becomes_the_endpoint(
    tmp_path: Path, variables: dict[str, str], endpoint: str
) -> None:
    (destination,) = loaded(tmp_path, **variables).destinations

    assert (destination.name, destination.endpoint) == ("env", endpoint)
    assert destination.encoding == "protobuf"


@pytest.mark.parametrize(
    ("variables", "endpoints"),
    [
        ({"ENDPOINT": "https://up"}, {"traces": "https://up/v1/traces"}),
        (
            {"ENDPOINT": "https://up", "LOGS_ENDPOINT": "https://logs/as/it/is"},
            {"traces": "https://up/v1/traces", "logs": "https://logs/as/it/is"},
        ),
        ({"LOGS_ENDPOINT": "https://logs/$x"}, {"logs": "https://logs/$x"}),
        (
            {"METRICS_ENDPOINT": "https://m", "LOGS_ENDPOINT": "https://l/x"},
            {"logs": "https://l/x", "metrics": "https://m/"},
        ),
        ({"ENDPOINT": "https://up", "LOGS_ENDPOINT": ""}, {"traces": "https://up/v1/traces"}),
        ({"ENDPOINT": "https://up", "LOGS_HEADERS": "a=b"}, {"traces": "https://up/v1/traces"}),
    ],
)
def test_signal_with_an_endpoint_variable_of_its_own_is_sent(
    tmp_path: Path, variables: dict[str, str], endpoints: dict[str, str]
) -> None:
    (destination,) = loaded(tmp_path, **variables).destinations

    assert {view.signal.word: view.endpoint for view in destination.views} == endpoints


def test_headers_variable_of_a_signal_takes_the_place_of_the_general_one(tmp_path: Path) -> None:
    (destination,) = loaded(
        tmp_path,
        ENDPOINT="https://up",
        HEADERS="x-general=1,x-both=general",
        TRACES_HEADERS="x-traces=1",
        LOGS_ENDPOINT="https://logs/x",
        LOGS_HEADERS="x-both=logs",
        METRICS_ENDPOINT="https://metrics/x",
    ).destinations
    headers = {view.signal.word: resolve_headers(view, {}) for view in destination.views}

    assert headers == {
        "traces": {"x-traces": "1"},
        "logs": {"x-both": "logs"},
        "metrics": {"x-general": "1", "x-both": "general"},
    }


def test_variables_of_the_only_signal_count(tmp_path: Path) -> None:
    (destination,) = loaded(
        tmp_path, LOGS_ENDPOINT="https://logs/x", LOGS_PROTOCOL="http/json", LOGS_TIMEOUT="1500"
    ).destinations

    assert (destination.encoding, destination.timeout_seconds) == ("json", 1.5)


def test_variables_make_nothing_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text("")
    environ = {"HOME": str(tmp_path), BASE + "ENDPOINT": "http://up"}

    assert load(tmp_path / "relay.toml", environ).destinations == ()


def test_headers_variable_is_read_as_baggage(tmp_path: Path) -> None:
    headers = "authorization=Basic%20abc==, x-a = b$c ,,x-comma=1%2C2"

    (destination,) = loaded(tmp_path, ENDPOINT="https://up", HEADERS=headers).destinations

    assert resolve_headers(destination, {}) == {
        "authorization": "Basic abc==",
        "x-a": "b$c",
        "x-comma": "1,2",
    }


def test_other_variables_set_their_keys(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("pem")

    (destination,) = loaded(
        tmp_path,
        ENDPOINT="https://up",
        TRACES_PROTOCOL="HTTP/JSON",
        PROTOCOL="grpc",
        COMPRESSION="gzip",
        CERTIFICATE=str(tmp_path / "ca.pem"),
        CLIENT_CERTIFICATE=str(tmp_path / "other.pem"),
        TRACES_CLIENT_CERTIFICATE=str(tmp_path / "cert.pem"),
        CLIENT_KEY=str(tmp_path / "key.pem"),
        TIMEOUT="2500",
    ).destinations

    assert (destination.encoding, destination.compression) == ("json", "gzip")
    assert (destination.ca_file, destination.blocked_reason) == (tmp_path / "ca.pem", "")
    assert destination.client_cert == tmp_path / "cert.pem"
    assert destination.client_key == tmp_path / "key.pem"
    assert destination.timeout_seconds == 2.5


@pytest.mark.parametrize(
    ("base", "endpoint"),
    [
        ("https://up/v1/traces", "https://up/v1/traces"),
        ("https://up/v1/traces/", "https://up/v1/traces"),
        ("https://up/otlp/v1/traces/v1/traces?k=v", "https://up/otlp/v1/traces?k=v"),
        ("https://up/v1/metrics", "https://up/v1/traces"),
    ],
)
def test_base_that_has_the_path_already_is_not_doubled_but_warned_of(
    tmp_path: Path, base: str, endpoint: str
) -> None:
    config = loaded(tmp_path, ENDPOINT=base)

    assert [each.endpoint for each in config.destinations] == [endpoint]
    (warning,) = config.warnings
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is a base" in warning
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in warning


def test_file_of_a_client_certificate_that_is_absent_blocks_the_destination(tmp_path: Path) -> None:
    (destination,) = loaded(
        tmp_path, ENDPOINT="https://up", CLIENT_CERTIFICATE="/no/cert", CLIENT_KEY="/no/key"
    ).destinations

    assert "/no/cert" in destination.reload_reason + destination.blocked_reason


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"PROTOCOL": "grpc"}, "no gRPC"),
        ({"LOGS_ENDPOINT": "https://l", "LOGS_PROTOCOL": "grpc"}, "LOGS_PROTOCOL is grpc"),
        ({"METRICS_ENDPOINT": "l:1"}, "METRICS_ENDPOINT must begin with http://"),
        ({"LOGS_ENDPOINT": "https://l", "LOGS_HEADERS": "s3cr3t"}, "LOGS_HEADERS has no ="),
        ({"PROTOCOL": "thrift"}, "PROTOCOL must be"),
        ({"TIMEOUT": "10s"}, "OTLP_TIMEOUT must be milliseconds, such as 10000, not '10s'"),
        ({"TRACES_TIMEOUT": "0"}, "TRACES_TIMEOUT must be milliseconds"),
        ({"CLIENT_KEY": "/k"}, "OTLP_CLIENT_KEY is set, and no OTEL_.*CLIENT_CERTIFICATE"),
        ({"TRACES_CLIENT_CERTIFICATE": "/c"}, "TRACES_CLIENT_CERTIFICATE is set, and no"),
        ({"TRACES_COMPRESSION": "zstd"}, "TRACES_COMPRESSION must be"),
        ({"HEADERS": "s3cr3t"}, "entry 1 of .*HEADERS has no ="),
        ({"HEADERS": "a=b,c=s3cr3t%ff"}, "entry 2 of .*HEADERS is not UTF-8"),
        ({"HEADERS": "a=s3cr3t%0A"}, "line break"),
        ({"ENDPOINT": "u:s3cr3t@up:4318"}, "must begin with http://"),
        ({"ENDPOINT": "http://localhost:4318"}, "this relay itself"),
    ],
)
def test_wrong_variable_is_an_error(tmp_path: Path, variables: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigError, match=part) as caught:
        loaded(tmp_path, **{"ENDPOINT": "https://up", **variables})

    assert "s3cr3t" not in str(caught.value)


def test_absent_endpoint_is_warned_of(tmp_path: Path) -> None:
    config = loaded(tmp_path, HEADERS="a=b")

    assert config.destinations == ()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in config.warnings[0]


def test_name_env_is_taken_only_once(tmp_path: Path) -> None:
    (tmp_path / "destinations.d").mkdir()
    (tmp_path / "destinations.d" / "env.toml").write_text('endpoint = "https://h/v1/traces"')

    with pytest.raises(ConfigError, match=r"the environment.*taken already.*env\.toml"):
        loaded(tmp_path, ENDPOINT="https://up")
