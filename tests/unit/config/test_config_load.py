import errno
import os
from pathlib import Path

import pytest

from relay.config import Config, ListenAddress
from relay.config import load as config_load
from relay.config.load import load
from relay.model.errors import ConfigError, NoCredentials, SecretUnset
from relay.model.run_as_hint import hint_for

ENDPOINT = 'endpoint = "https://up.example/v1/traces"\n'
UP = f"[destinations.up]\n{ENDPOINT}"


class Place:
    """A folder with a configuration, and an environment that knows nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "relay.toml"
        self.environ = {"HOME": str(folder / "home")}

    def write(self, text: str, name: str = "relay.toml") -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        path.chmod(0o600)
        return path

    def load(self, text: str | None = None, **environ: str) -> Config:
        if text is not None:
            self.write(text)
        return load(self.file, {**self.environ, **environ})

    def problems(self, text: str | None = None, **environ: str) -> list[str]:
        """What is wrong, a line each."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, **environ)
        return str(caught.value).splitlines()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(config_load, "SYSTEM_CONFIG", tmp_path / "etc" / "relay.toml")
    return Place(tmp_path)


def test_every_key_reaches_its_field(place: Place) -> None:
    place.write("pem", "c.pem")
    config = place.load(
        """
        state_dir = "state"
        destinations_dir = "saved"
        [ingest]
        listen = ["0.0.0.0:4318", "[::1]:0"]
        max_body = "1MiB"
        max_in_flight = 2097152
        tokens = ["${env:T}"]
        malformed_ids = "derive"
        cors_origins = ["https://Page.example"]
        tls_cert = "c.pem"
        tls_key = "c.pem"
        [enrich]
        detect = []
        attributes = { "deployment.environment.name" = "${env:T}" }
        [buffer]
        max_size = "2GiB"
        min_free = "0B"
        keep_delivered = "0s"
        when_full = "drop-oldest"
        sync = "normal"
        [admin]
        listen = "localhost:0"
        [destinations.up]
        endpoint = "http://10.0.0.1:4318/v1/traces"
        headers = { X-Team = "${env:T}" }
        encoding = "json"
        compression = "gzip"
        timeout = "5s"
        ca_file = "c.pem"
        client_cert = "c.pem"
        client_key = "c.pem"
        proxy = "http://u:p@proxy.example:3128"
        max_batch_bytes = "1MiB"
        max_batch_items = 10
        concurrency = 4
        hold = "forever"
        max_age = "7d"
        special_doubles = "drop"
        paused = true
        """,
        T="t0k",
    )
    pem = place.folder / "c.pem"
    up = config.destinations[0]

    assert config.state_dir == place.folder / "state"
    assert config.destinations_dir == place.folder / "saved"
    assert config.ingest.listen == (ListenAddress("0.0.0.0", 4318), ListenAddress("::1", 0))
    assert (config.ingest.max_body_bytes, config.ingest.max_in_flight_bytes) == (2**20, 2**21)
    assert [token.reveal() for token in config.ingest.tokens] == ["t0k"]
    assert (config.ingest.malformed_ids, config.ingest.tls_cert) == ("derive", pem)
    assert config.ingest.cors_origins == ("https://page.example",)
    assert config.enrich.detect == ()
    assert config.enrich.attributes == {"deployment.environment.name": "t0k"}
    assert (config.buffer.max_size_bytes, config.buffer.min_free_bytes) == (2**31, 0)
    assert config.buffer.keep_delivered_seconds == 0
    assert (config.buffer.when_full, config.buffer.sync) == ("drop-oldest", "normal")
    assert config.admin.listen == (ListenAddress("localhost", 0),)
    assert up.endpoint == "http://10.0.0.1:4318/v1/traces"
    assert {name: value.reveal() for name, value in up.headers.items()} == {"X-Team": "${env:T}"}
    assert (up.encoding, up.compression, up.timeout_seconds) == ("json", "gzip", 5)
    assert up.ca_file == up.client_cert == up.client_key == pem
    assert up.proxy == "http://u:p@proxy.example:3128"
    assert (up.max_batch_bytes, up.max_batch_items, up.concurrency) == (2**20, 10, 4)
    assert (up.hold_seconds, up.max_age_seconds) == (None, 7 * 86400)
    assert (up.special_doubles, up.paused, up.blocked_reason) == ("drop", True, "")


def test_defaults_hold_without_any_file(place: Place) -> None:
    config = load(None, place.environ)

    assert config == Config(
        state_dir=place.folder / "home/.local/state/otlp-relay",
        destinations_dir=place.folder / "home/.config/otlp-relay/destinations.d",
    )


def test_file_is_found_in_the_order_promised(place: Place) -> None:
    system = place.write("", "etc/relay.toml")
    assert load(None, place.environ).source == system
    home = place.write("", "home/.config/otlp-relay/relay.toml")
    assert load(None, place.environ).source == home
    xdg = place.write("", "xdg/otlp-relay/relay.toml")
    environ = {**place.environ, "XDG_CONFIG_HOME": str(place.folder / "xdg")}
    assert load(None, environ).source == xdg
    named = place.write("", "named.toml")
    environ["OTLP_RELAY_CONFIG"] = str(named)
    assert load(None, environ).source == named
    assert load(str(place.write("")), environ).source == place.file


@pytest.mark.parametrize("by", ["--config", "OTLP_RELAY_CONFIG"])
def test_named_file_that_is_absent_is_an_error(place: Place, by: str) -> None:
    named = "absent.toml" if by == "--config" else None

    with pytest.raises(ConfigError, match=f"absent.toml.*no such file.*{by}"):
        load(named, {**place.environ, "OTLP_RELAY_CONFIG": "" if named else "absent.toml"})


def test_files_that_cannot_be_read_are_errors(place: Place) -> None:
    place.file.symlink_to("nowhere")
    assert "No such file" in place.problems()[0]
    place.file.unlink()
    place.file.mkdir()
    assert "no regular file" in place.problems()[0]
    place.file.rmdir()
    place.file.write_bytes(b"\xff")
    assert "not UTF-8" in place.problems()[0]


def test_file_without_permission_is_an_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("")

    def refuse(path: Path, _flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    # Not by the file's mode: tests may run as root, who may read everything.
    monkeypatch.setattr(os, "open", refuse)

    expected = f"{place.file}: cannot be read: Permission denied ({hint_for(place.file)})"
    assert place.problems() == [expected]


def test_folder_without_permission_is_an_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "lstat", refuse)

    with pytest.raises(ConfigError, match=r"relay\.toml: cannot be looked at: Permission denied"):
        load(None, place.environ)


def test_toml_error_names_file_line_and_column(place: Place) -> None:
    assert place.problems("a = 1\nb = = 2") == [
        f"{place.file}: is no TOML: line 2, column 5: Invalid value"
    ]
    assert "line 2, column 7" in place.problems('a = 1\nb = "x')[0]
    assert "is no TOML" in place.problems("a = " + "9" * 5000)[0]
    assert place.problems("a = " + "[" * 50_000)


def test_state_dir_comes_from_systemd_then_xdg(place: Place) -> None:
    state = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/xdg"}

    assert place.load("", **state).state_dir == Path("/var/lib/a")
    assert place.load("", XDG_STATE_HOME="/xdg").state_dir == Path("/xdg/otlp-relay")
    assert place.load('state_dir = "/x"', **state).state_dir == Path("/x")
    with pytest.raises(ConfigError, match=r"state_dir: has no default without \$HOME"):
        load(place.write(""), {})


def test_all_problems_come_at_once_with_key_and_nearest(place: Place) -> None:
    problems = place.problems(
        f"""
        state_dri = "x"
        [ingest]
        max_bdy = 1
        listen = 5
        [buffer]
        sync = "ful"
        {UP}
        concurrency = 5
        headers = {{ "a b" = "x", Ok = 1 }}
        """
    )

    file, rule = place.file, "letters, digits and !#$%&'*+-.^_`|~ only"
    assert problems == [
        f"{file}: state_dri: there is no such key (did you mean state_dir?)",
        f"{file}: ingest.max_bdy: there is no such key (did you mean max_body?)",
        f"{file}: ingest.listen: must be a string, not a number",
        f'{file}: buffer.sync: must be one of "full", "normal", not \'ful\'',
        f"{file}: destinations.up.concurrency: must be a whole number from 1 to 4, not 5",
        f"{file}: destinations.up.headers.'a b': is no header name: {rule}",
        f"{file}: destinations.up.headers.Ok: must be a string",
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[ingest]\nlisten = '0.0.0.0:4318'", "no tokens"),
        ("[ingest]\nlisten = 'host.example:4318'", "no tokens"),
        ("[ingest]\nlisten = []", "at least one"),
        ("[ingest]\nlisten = ['localhost:1', 'localhost:1']", "twice"),
        ("[ingest]\ntokens = 'x'", "must be a list"),
        ("[ingest]\ntokens = ['']", r"tokens\[0\]"),
        ("[ingest]\ntls_cert = 'relay.toml'", "tls_key: is missing"),
        ("[ingest]\ntls_cert = 'absent'\ntls_key = 'relay.toml'", "tls_cert.*No such file"),
        ("[ingest]\nmax_body = '1GiB'", "max_in_flight.*at least max_body"),
        ("[ingest]\nmax_body = true", "must be a size"),
        ("[ingest]\ncors_origins = ['https://a/b']", "origin"),
        ("[ingest]\ncors_origins = ['https://a.b/']", "origin"),
        ("[ingest]\ncors_origins = ['https://a.b:443']", "without :"),
        ("[ingest]\ncors_origins = ['http://a.b:80']", "without :"),
        ("[ingest]\ncors_origins = ['http://a.b:65536']", "origin"),
        ("[ingest]\ncors_origins = ['https://a.*.b']", "origin"),
        ("[ingest]\ncors_origins = ['https://a*.b']", "origin"),
        ("[ingest]\ncors_origins = ['https://*']", "origin"),
        ("[ingest]\ncors_origins = ['*.a.b']", "origin"),
        ("[ingest]\ncors_origins = ['https://bücher.example']", "xn--"),
        ("[ingest]\nallowed_hosts = ['a.b:4318']", "without a port"),
        ("[ingest]\nallowed_hosts = ['https://a.b']", "without a port"),
        ("[ingest]\ntrusted_proxies = ['10.0.0.1/8']", "must be 0"),
        ("[ingest]\ntrusted_proxies = ['proxy.example']", "a network"),
        ("[ingest]\ntokens_for = 'remote'", "does nothing without tokens"),
        ("[ingest]\ngrpc_hint = true\nlisten = 'localhost:4317'", "needs port 4317"),
        ("[admin]\nhealth_listen = 'localhost:4318'", "is what ingest listens on"),
        ("[admin]\nhealth_listen = '127.0.0.1:4380'", "is what admin listens on"),
        ("[enrich]\ndetect = ['process']", '"host", "os"'),
        ("[enrich]\nattributes = { a.b = 'x' }", "name with dots in quotes"),
        ("[enrich]\nattributes = { a = 1 }", "must be a string"),
        ("[enrich]\nattributes = { '' = 'x' }", "an attribute needs a name"),
        ("[buffer]\nkeep_delivered = 3600", "duration"),
        ("[buffer]\nkeep_delivered = 'forever'", "duration"),
        ("[admin]\nlisten = '0.0.0.0:4380'", "loopback.*SSH tunnel"),
        ("[admin]\nlisten = 'localhost:4318'", "ingest listens"),
        ("ingest = 1", "must be a table"),
        ("destinations = []", r"\[destinations.NAME\]"),
        ("[destination.x]", "did you mean destinations"),
        ("[destinations.up]", "endpoint: is missing"),
        ("[destinations.'a b']\n" + ENDPOINT, "invalid name"),
        ("[destinations]\nup = 'x'", "must be a table"),
        ("[destinations.up]\npreset = 'axoim'", "no preset 'axoim'.*did you mean axiom"),
        ("[destinations.up]\nendpoint = 'up.example/v1'", "https?://"),
        ("[destinations.up]\nendpoint = 'http:///v1'", "name a host"),
        ("[destinations.up]\nendpoint = 'http://h:99999/'", "host or port"),
        ("[destinations.up]\nendpoint = 'http://h/#x'", "fragment"),
        ("[destinations.up]\nendpoint = 'http://h/a b'", "blank"),
        ("[destinations.up]\nendpoint = 'grpc://h:4317'", "must begin with http://"),
        ("[destinations.up]\nendpoint = 'http://localhost:4318/v1/traces'", "relay itself"),
        (UP + "timeout = '0s'", "longer than 0"),
        (UP + "proxy = 'socks5://x'", "proxy"),
        (UP + "client_cert = 'x'", "client_key: is missing"),
        (
            UP + "client_cert = 'x'\nclient_key = '${credential:key}'",
            "path of a file, not its contents",
        ),
        (UP + "headers = { A = '1', a = '2' }", "same header"),
        (UP + "headers = { Content-Type = 'x' }", "encoding"),
        (UP + "headers = { A = '$x' }", "dollar"),
        (UP + "headers = 'A=b'", "must be a table"),
        (UP + "paused = 'yes'", "true or false"),
    ],
)
def test_wrong_value_is_refused_with_what_is_right(place: Place, text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part) as caught:
        place.load(text)

    assert str(caught.value).startswith(str(place.file))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[ingest]\ntokens = ['s3cr3t s3cr3t']",
        UP + 'headers = { A = "s3cr3t\\n" }',
        UP + "headers = { A = 's3cr3t$' }",
        UP + "headers = { A = ['s3cr3t'] }",
        UP + "proxy = 'ftp://u:s3cr3t@h'",
        UP + "proxy = ['http://u:s3cr3t@h']",
        "[destinations.up]\nendpoint = 'ftp://u:s3cr3t@h/x?k=s3cr3t'",
        "[destinations.up]\nendpoint = ['http://u:s3cr3t@h/x?k=s3cr3t']",
        "[destinations.up]\nendpoint = 'http://u:s3cr3t@localhost:4318/x?k=s3cr3t'",
        "[destinations.up]\nendpoint = 'https://u:s3cr3t/x@h:x/'",
        "[ingest]\nlisten = '${env:SECRET}'",
        "[ingest]\ntls_cert = '${env:SECRET}${file:secret}'",
        "[buffer]\nsync = '${env:SECRET}'\nmax_size = '${file:secret}'",
    ],
)
def test_problem_never_shows_a_secret(place: Place, text: str) -> None:
    place.write("s3cr3t", "secret")

    assert "s3cr3t" not in "".join(place.problems(text, SECRET="s3cr3t"))


def test_unset_secret_blocks_its_destination_only(place: Place) -> None:
    config = place.load(
        UP
        + "headers = { A = '${env:NOPE}' }\n[destinations.b]\nendpoint = 'https://${env:NO}/x'\n"
        + f"[destinations.c]\n{ENDPOINT}ca_file = 'absent.pem'\n[destinations.d]\n{ENDPOINT}"
    )

    b, c, d, up = config.destinations
    assert up.blocked_reason == "secret ${env:NOPE} is not set"
    assert (b.endpoint, up.reload_reason) == ("", "")
    assert b.blocked_reason == b.reload_reason
    assert "destinations.b.endpoint: secret ${env:NO} is not set" in b.reload_reason
    assert "ca_file" in c.blocked_reason
    assert d.blocked_reason == ""
    assert set(config.destination_problems) == {"up", "b", "c"}


def test_unset_secret_elsewhere_is_an_error(place: Place) -> None:
    text = "[ingest]\nlisten = '0.0.0.0:1'\ntokens = ['${env:NOPE}']"

    assert place.problems(text) == [
        (
            f"{place.file}: ingest.tokens[0]: secret ${{env:NOPE}} is not set "
            "(set it in the environment that the daemon is started with, then restart it)"
        )
    ]


def test_saved_destinations_are_read_beside_the_config(place: Place) -> None:
    saved = place.write(ENDPOINT, "destinations.d/saved.toml")
    place.write("no TOML", "destinations.d/.hidden.toml")
    place.write("no TOML", "destinations.d/notes.txt")

    config = place.load("[destinations.up]\nendpoint = 'https://h/v1/traces'")

    assert [(d.name, d.source) for d in config.destinations] == [
        ("saved", saved),
        ("up", place.file),
    ]


def test_saved_destinations_are_read_without_a_config(place: Place) -> None:
    place.write(ENDPOINT, "home/.config/otlp-relay/destinations.d/saved.toml")

    assert [d.name for d in load(None, place.environ).destinations] == ["saved"]


def test_saved_destination_starts_paths_at_the_config(place: Place) -> None:
    place.write("t0k", "token")
    place.write(ENDPOINT + "headers = { A = '${file:token}' }", "elsewhere/saved.toml")

    config = place.load("destinations_dir = 'elsewhere'")

    assert config.destination_problems == {}


def test_same_name_twice_is_an_error_naming_both_files(place: Place) -> None:
    saved = place.write(ENDPOINT, "destinations.d/up.toml")

    (problem,) = place.problems(UP)

    assert str(place.file) in problem
    assert str(saved) in problem


def test_broken_saved_destination_names_its_file(place: Place) -> None:
    place.write("x =", "destinations.d/a.toml")
    place.write("endpiont = 'x'", "destinations.d/b.toml")
    place.write(ENDPOINT, "destinations.d/c d.toml")
    (place.folder / "destinations.d" / "e.toml").symlink_to("nowhere")

    problems = place.problems("")

    assert [Path(problem.split(": ")[0]).name for problem in problems] == [
        "a.toml",
        "e.toml",
        "c d.toml",
        "b.toml",
        "b.toml",
    ]
    assert "did you mean endpoint?" in problems[3]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[destinations.up]\nendpoint = 'http://localhost:4317/v1/traces'", "gRPC"),
        ("[destinations.up]\nendpoint = 'https://up.example'", "has no path"),
        ("[destinations.up]\nendpoint = 'http://h/v1'\nheaders = { A = 'b' }", "in the clear"),
    ],
)
def test_endpoint_that_looks_wrong_is_warned_of(place: Place, text: str, part: str) -> None:
    (warning,) = place.load(text).warnings

    assert part in warning


def test_every_key_of_giving_way_has_effect(place: Place) -> None:
    loud = UP + "concurrency = 2\nhold = '1h'\nmax_age = '1h'\n[buffer]\nwhen_full = 'drop-oldest'"
    config = place.load(loud)

    assert config.warnings == ()
    assert config.buffer.when_full == "drop-oldest"
    assert config.destinations[0].hold_seconds == 3600


def test_proxy_is_read_with_its_secret_which_no_repr_shows(place: Place) -> None:
    text = UP + "proxy = 'http://u:${env:PW}@proxy.example:3128'"

    (up,) = place.load(text, PW="a$b").destinations

    assert up.proxy == "http://u:a$b@proxy.example:3128"
    assert "a$b" not in repr(up)


@pytest.mark.parametrize(
    ("text", "is_warned"),
    [
        ("[ingest]\ntokens = ['s3cr3t']", True),
        ("[ingest]\ntokens = ['${env:T}']", False),
        (UP + "headers = { Authorization = 's3cr3t' }", True),
        (UP + "headers = { X-Any = 's3cr3t-that-is-quite-long' }", True),
        (UP + "headers = { Authorization = 'Bearer ${env:T}', X-Dataset = 'traces' }", False),
        (UP + "proxy = 'http://u:s3cr3t@h'", True),
        ("[destinations.up]\nendpoint = 'https://h/v1/traces?key=s3cr3t'", True),
        (UP, False),
    ],
)
def test_secret_in_a_file_for_everybody_is_warned_of(
    place: Place, text: str, is_warned: bool
) -> None:
    assert place.load(text, T="t").warnings == ()
    place.file.chmod(0o644)

    warnings = load(place.file, {**place.environ, "T": "t"}).warnings

    assert bool(warnings) is is_warned
    assert all(str(place.file) in warning and "s3cr3t" not in warning for warning in warnings)


TOKENS_OF_THE_DAEMON = """
[ingest]
listen = "0.0.0.0:4318"
tokens = ["${credential:ingest-token}", "${env:OTHER}"]
"""


def test_command_does_without_the_tokens_that_only_the_daemon_has(place: Place) -> None:
    place.write(TOKENS_OF_THE_DAEMON)
    config = load(place.file, place.environ, forgiven=SecretUnset)

    assert config.ingest.tokens == ()
    assert len(config.warnings) == 2
    assert "ingest.tokens[0]: secret ${credential:ingest-token} is not set" in config.warnings[0]


def test_daemon_does_not_do_without_its_tokens(place: Place) -> None:
    problems = place.problems(TOKENS_OF_THE_DAEMON)

    assert len(problems) == 2
    assert "LoadCredential=ingest-token:PATH" in problems[0]


def test_only_the_kind_of_secret_that_is_forgiven_is(place: Place) -> None:
    place.write(TOKENS_OF_THE_DAEMON)
    with pytest.raises(ConfigError) as error:
        load(place.file, place.environ, forgiven=NoCredentials)

    assert "OTHER" in str(error.value)
    assert "credential" not in str(error.value)


def test_credential_that_is_absent_tells_what_the_unit_lacks(place: Place, tmp_path: Path) -> None:
    (problem,) = place.problems(
        '[ingest]\ntokens = ["${credential:ingest-token}"]', CREDENTIALS_DIRECTORY=str(tmp_path)
    )

    assert "No such file" in problem
    assert "add LoadCredential=ingest-token:PATH to the unit and restart it" in problem


def test_open_addresses_need_no_tokens_where_only_health_is_told(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(
        "[ingest]\ntokens = ['t']\ntokens_for = 'remote'\n"
        "cors_origins = ['https://*.a.b', 'http://localhost:3000', 'http://[::1]:8080', '*']\n"
        "trusted_proxies = ['10.0.0.0/8', '::1']\nallowed_hosts = ['*.a.b', 'c.d', '*']\n"
        "[admin]\nhealth_listen = ['0.0.0.0:4381', '[::]:4381']\n"
    )
    config = load(file, {"HOME": "/root"})

    assert [str(each) for each in config.ingest.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert [str(each) for each in config.admin.health_listen] == ["0.0.0.0:4381", "[::]:4381"]


def test_own_traces_go_to_a_destination_that_there_is_and_that_gets_traces(place: Place) -> None:
    place.write(UP + '[telemetry]\ntraces_to = "up"\n')
    assert load(str(place.file), place.environ).telemetry.traces_to == "up"
    place.write(UP + '[telemetry]\ntraces_to = "down"\n')
    with pytest.raises(ConfigError, match=r"no destination is called .down"):
        load(str(place.file), place.environ)
    place.write(UP + 'signals = ["logs"]\n[telemetry]\ntraces_to = "up"\n')
    with pytest.raises(ConfigError, match="up gets no traces"):
        load(str(place.file), place.environ)
