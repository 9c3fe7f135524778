"""Which proxy, which certificates, and when a connection is made anew."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import DestinationConfig
from relay.model.errors import ConfigError
from relay.upstream.proxies import find_proxy, is_exempt
from relay.upstream.response import Response
from relay.upstream.routes import Route, fingerprint
from relay.upstream.tls import tls_context

Settings = Callable[..., DestinationConfig]
AWAY = "https://api.axiom.example/v1/traces"


@pytest.mark.parametrize(
    ("endpoint", "environment", "proxy"),
    [
        (AWAY, {}, None),
        (AWAY, {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        (AWAY, {"https_proxy": "p:3128"}, "http://p:3128"),
        (AWAY, {"ALL_PROXY": "http://all:1"}, "http://all:1"),
        (AWAY, {"HTTP_PROXY": "http://p:3128"}, None),
        ("http://away.example/", {"HTTP_PROXY": "http://p:3128"}, "http://p:3128"),
        (AWAY, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.example,.axiom.example"}, None),
        (AWAY, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        (AWAY, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "xiom.example"}, "http://p:1"),
        (AWAY, {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "http://q:1"),
        (AWAY, {"HTTPS_PROXY": "http://p:1", "https_proxy": ""}, None),
        (AWAY, {"HTTPS_PROXY": "", "ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://10.1.2.3/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://a.example:99/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example:99"}, None),
    ],
)
def test_proxy_auto_takes_what_the_environment_says(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: str,
    environment: dict[str, str],
    proxy: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    found = find_proxy(settings(endpoint))

    assert (found and found.url) == proxy
    assert found is None or found.variable in environment


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.9/8"),
        ("10.1.2.3", "a.example, 10.1.2.3"),
        ("10.1.2.3", "10.1.2.3:4318"),
        ("fd00::1", "fd00::1"),
        ("fd00::1", "FD00:0:0::1"),
        ("fd00::1", "[fd00::1]"),
        ("fd00::1", "[fd00::1]:4318"),
        ("fd00::1", "fd00::/8"),
        ("fd00::1", "[fd00::]/8"),
        ("::ffff:10.1.2.3", "10.0.0.0/8"),
        ("tempo.obs.svc", "*.svc"),
        ("tempo.obs.svc", ".svc"),
        ("tempo.obs.svc", "svc"),
        ("tempo.obs.svc.", "*.svc"),
        ("tempo.obs.svc", "obs.svc."),
        ("Tempo.Obs.SVC", "TEMPO.obs.svc:4318"),
        ("tempo.obs.svc", ".svc:4318"),
        ("tempo.obs.svc", "a.example obs.svc\tb.example"),
        ("tempo.obs.svc", "*"),
        ("tempo.obs.svc", "a.example,*"),
        ("obs.svc", "*.obs.svc"),
        ("b\xfccher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "b\xfccher.example"),
    ],
)
def test_no_proxy_is_read_as_the_peers_read_it(host: str, no_proxy: str) -> None:
    assert is_exempt(host, 4318, no_proxy)
    assert is_exempt(host, 4318, f"other.example,{no_proxy}")


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("10.1.2.3", ""),
        ("10.1.2.3", "11.0.0.0/8,fd00::/8,10.1.2.3/33,/,10.0.0.0/"),
        ("10.1.2.3", "10.1.2.3:80"),
        ("10.1.2.3", "2.3,.3,*.3"),
        ("fd00::1", "fd00::2,[fd00::1]:80,10.0.0.0/8"),
        ("tempo.obs.svc", "*.sv,vc,bs.svc,tempo.obs.svc:80,:4318,.,*.,tempo.*,10.0.0.0/8"),
        ("tempo.obs.svc.example", "svc,*.svc"),
    ],
)
def test_no_proxy_exempts_nobody_else(host: str, no_proxy: str) -> None:
    assert not is_exempt(host, 4318, no_proxy)


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_proxy_of_any_text_is_read_without_an_error(host: str, no_proxy: str) -> None:
    is_exempt(host, 4318, no_proxy)


def test_proxy_of_another_kind_in_the_environment_names_the_variable(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://u:hunter2@p:1")

    with pytest.raises(
        ConfigError, match=r"\(ALL_PROXY\) must be an http:// or https:// URL"
    ) as error:
        find_proxy(settings(AWAY))

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "a.localhost"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_auto_is_never_used_for_this_machine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, scheme: str, host: str
) -> None:
    """Else the token would leave the machine because a shell exports HTTP_PROXY."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://p:3128")

    assert find_proxy(settings(f"{scheme}://{host}:4318/v1/traces")) is None


def test_proxy_none_ignores_the_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://p:3128")

    assert find_proxy(settings(AWAY, proxy="none")) is None


def test_proxy_url_that_is_set_is_used_for_this_machine_too(settings: Settings) -> None:
    assert find_proxy(settings(proxy="http://p:1")) == ("http://p:1", "")


@pytest.mark.parametrize("proxy", ["socks5://u:hunter2@p:1", "ftp://p", "http://"])
def test_proxy_of_another_kind_is_an_error_that_shows_no_secret(
    settings: Settings, proxy: str
) -> None:
    with pytest.raises(ConfigError, match="must be an http:// or https:// URL") as caught:
        find_proxy(settings(proxy=proxy))

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["ca_file", "client_cert"])
def test_tls_files_that_are_absent_or_empty_are_errors_that_name_key_and_file(
    settings: Settings, tmp_path: Path, key: str
) -> None:
    path = tmp_path / "some.pem"
    with pytest.raises(ConfigError, match=rf"{key}: .*some\.pem: No such file"):
        tls_context(settings(AWAY, **{key: str(path)}))

    path.write_text("nothing")
    with pytest.raises(ConfigError, match=rf"{key}: .*some\.pem cannot be used"):
        tls_context(settings(AWAY, **{key: str(path)}))


def test_fingerprint_changes_with_endpoint_proxy_and_renewed_certificates_only(
    settings: Settings, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("one")
    before = fingerprint(settings(ca_file=str(authority)))

    assert fingerprint(settings(ca_file=str(authority), timeout_seconds=1, encoding="json")) == (
        before
    )
    assert fingerprint(settings(AWAY, ca_file=str(authority))) != before
    assert fingerprint(settings(ca_file=str(authority), proxy="none")) != before
    os.utime(authority, ns=(1, 1))
    assert fingerprint(settings(ca_file=str(authority))) != before


@pytest.mark.parametrize("proxy", ["auto", "http://relayman:passw0rd-7@proxy.example:3128"])
def test_words_of_a_proxy_show_no_credentials_of_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://relayman:passw0rd-7@proxy.example:3128")
    route = Route.of(settings(AWAY, proxy=proxy))
    words = f"relayman has no passw0rd-7 ({route.proxy_authorization})"

    shown = Response(407, secrets=tuple(route.secrets)).shown(words)

    assert shown == "*** has no *** (***)"
