from pathlib import Path

import msgspec
import pytest

from relay.config import (
    BufferConfig,
    Config,
    DestinationConfig,
    IngestConfig,
    ListenAddress,
    changes_needing_restart,
    header_value_fault,
    points_at,
    resolve_headers,
)
from relay.config.secrets import Secret
from relay.model.errors import ConfigError, SecretUnset


def destination(
    endpoint: str = "https://up.example/v1/traces",
    headers: dict[str, str] | None = None,
    *,
    folder: Path = Path("/"),
    ca_file: Path | None = None,
    reload_reason: str = "",
) -> DestinationConfig:
    return DestinationConfig(
        name="up",
        endpoint=endpoint,
        headers={name: Secret(value) for name, value in (headers or {}).items()},
        folder=folder,
        ca_file=ca_file,
        reload_reason=reload_reason,
    )


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:4318", "localhost", 4318),
        ("LOCALHOST:0", "localhost", 0),
        ("[::1]:4318", "::1", 4318),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
    ],
)
def test_listen_address_is_host_and_port(text: str, host: str, port: int) -> None:
    address = ListenAddress.parse(text)

    assert address == (host, port)
    assert ListenAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *["", ":4318", "4318", "localhost", "localhost:", "localhost:65536", "::1:4318", "[::1]"],
        *["[localhost]:1", "*:1", "a b:1", "localhost:1 ", "http://localhost:1", "-a:1", "h:٣"],
    ],
)
def test_listen_address_is_refused_when_it_is_none(text: str) -> None:
    with pytest.raises(ConfigError):
        ListenAddress.parse(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("localhost.", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("host.example", False),
        ("localhost.example", False),
    ],
)
def test_loopback_is_told_without_a_name_server(host: str, is_loopback: bool) -> None:
    assert ListenAddress(host, 1).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("endpoint", "listen"),
    [
        ("http://localhost:4318/v1/traces", "127.0.0.1:4318"),
        ("http://127.0.0.1:4318/other", "localhost:4318"),
        ("http://[::1]:4318/", "localhost:4318"),
        ("http://127.1:4318/", "localhost:4318"),
        ("http://LOCALHOST.:4318/", "0.0.0.0:4318"),
        ("http://0.0.0.0:4318/", "[::]:4318"),
        ("http://10.1.2.3:4318/", "10.1.2.3:4318"),
        ("http://relay.example/", "relay.example:80"),
        ("https://relay.example/", "relay.example:443"),
    ],
)
def test_endpoint_points_at_our_own_listener(endpoint: str, listen: str) -> None:
    assert points_at(destination(endpoint), [ListenAddress.parse(listen)])


@pytest.mark.parametrize(
    ("endpoint", "listen"),
    [
        ("http://localhost:4319/v1/traces", "localhost:4318"),
        ("http://10.1.2.3:4318/", "localhost:4318"),
        ("http://localhost:4318/", "10.1.2.3:4318"),
        ("http://relay.example:4318/", "localhost:4318"),
        ("", "localhost:4318"),
    ],
)
def test_endpoint_elsewhere_is_not_ours(endpoint: str, listen: str) -> None:
    assert not points_at(destination(endpoint), [ListenAddress.parse(listen)])


def test_resolve_headers_reads_secrets_at_each_call(tmp_path: Path) -> None:
    one = destination(
        headers={"Authorization": "Bearer ${file:token}", "X-Set": "${env:SET}", "X-D": "a$$b"},
        folder=tmp_path,
    )
    with pytest.raises(SecretUnset, match="token"):
        resolve_headers(one, {"SET": "x"})
    (tmp_path / "token").write_text("t1\n")
    first = resolve_headers(one, {"SET": "x"})
    (tmp_path / "token").write_text("t2\n")

    second = resolve_headers(one, {"SET": "y"})

    assert first == {"Authorization": "Bearer t1", "X-Set": "x", "X-D": "a$b"}
    assert second == {"Authorization": "Bearer t2", "X-Set": "y", "X-D": "a$b"}


def test_resolve_headers_takes_the_process_environment_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTLP_RELAY_TEST_TOKEN", "t")

    assert resolve_headers(destination(headers={"A": "${env:OTLP_RELAY_TEST_TOKEN}"})) == {"A": "t"}


def test_resolve_headers_refuses_values_without_showing_them() -> None:
    for value in ("s3cr3t\nX: y", "s3cr3t ", "s3cr3t\0", "s3cr3t☃"):
        with pytest.raises(SecretUnset) as caught:
            resolve_headers(destination(headers={"A": "${env:V}"}), {"V": value})
        assert "s3cr3t" not in str(caught.value)
        assert "header A" in str(caught.value)


def test_resolve_headers_waits_for_the_certificate(tmp_path: Path) -> None:
    one = destination(ca_file=tmp_path / "ca.pem")
    with pytest.raises(SecretUnset, match=r"ca_file .*No such file"):
        resolve_headers(one, {})

    (tmp_path / "ca.pem").write_text("pem")

    assert resolve_headers(one, {}) == {}


def test_resolve_headers_tells_what_only_a_reload_mends() -> None:
    with pytest.raises(SecretUnset, match="endpoint: secret"):
        resolve_headers(destination("", reload_reason="endpoint: secret X is not set"), {})


@pytest.mark.parametrize("value", ["", "Bearer x", "a\tb", "é", "~!"])
def test_header_value_is_right(value: str) -> None:
    assert header_value_fault(value) is None


def test_destination_shows_no_secret() -> None:
    one = destination("https://u:s3cr3t@h/x?k=s3cr3t", {"A": "s3cr3t"})
    config = Config(
        state_dir=Path("/s"), destinations=(one,), ingest=IngestConfig(tokens=(Secret("s3cr3t"),))
    )

    assert "s3cr3t" not in repr(one) + str(one) + repr(config)
    assert one.shown_endpoint == "https://***@h/x?***"


def test_changes_needing_restart_names_the_keys() -> None:
    old = Config(state_dir=Path("/a"))
    replace = msgspec.structs.replace
    same = replace(old, destinations=(destination(),), buffer=BufferConfig(max_size_bytes=2**30))
    other = replace(
        old,
        state_dir=Path("/b"),
        buffer=BufferConfig(sync="normal"),
        ingest=IngestConfig(tls_cert=Path("/c"), listen=(ListenAddress("localhost", 1),)),
    )

    assert changes_needing_restart(old, same) == []
    assert changes_needing_restart(old, other) == [
        "state_dir",
        "ingest.listen",
        "ingest.tls_cert",
        "buffer.sync",
    ]
