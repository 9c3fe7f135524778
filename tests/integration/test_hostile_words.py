"""Words of senders, upstreams and files that would command a terminal, end to end."""

import json
import socketserver
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner

from relay.cli import main
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually

# Sets the clipboard, clears the screen, C1's CSI, turns the direction, has no width, begins a line.
HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\u202eevil\u200b\r\nok  [/x] [bold]:smile:"
# What HTTP lets through in a header: bytes above 0x7f.
HEADER = "evil\u202e\x9b31m".encode()
TRACE = "0af7651916cd43dd8448eb211c80319c"


def harmless(text: str) -> bool:
    """Whether a terminal shows every character of it, and obeys none but line breaks and the tabs
    of a table.
    """
    return all(
        each in "\n\t" or each.isprintable() or unicodedata.category(each) == "Zs" for each in text
    )


class _Refusal(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        size = 0
        while (line := self.rfile.readline()).strip():
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        self.rfile.read(size)
        body = json.dumps({"message": HOSTILE}).encode()
        self.wfile.write(
            b"HTTP/1.1 403 No\r\nServer: %s\r\nVia: 1.1 %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (HEADER, HEADER, len(body), body)
        )


@contextmanager
def hostile_upstream() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Refusal) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        finally:
            server.shutdown()
            thread.join()


def test_no_command_repeats_what_would_command_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[2Jb\u202ec"
    folder.mkdir()
    good = span(traceId=TRACE, name=HOSTILE)
    with (
        hostile_upstream() as endpoint,
        Relay(folder, {"up": {"endpoint": endpoint}}) as relay,
    ):
        body = json.dumps(request(good, span(traceId=HOSTILE), service=HOSTILE)).encode()
        agent = HEADER.decode("latin-1")
        assert relay.post(body, headers={"User-Agent": agent})[0] == 200
        eventually(lambda: relay.destination("up")["state"] == "blocked")
        commands = [
            ("where", TRACE),
            ("where", HOSTILE),
            ("dead-letter list",),
            ("dead-letter list", "--all"),
            ("dead-letter show", "1"),
            ("status",),
            ("destination list",),
            ("destination show", "up"),
            ("destination show", HOSTILE),
            ("destination test", "up"),
            ("doctor",),
            ("check-config",),
            ("buffer check",),
            ("send-test-trace", "--wait", "0s"),
            ("replay", "--to", "up", "--trace", HOSTILE),
            ("dead-letter list", "--destination", HOSTILE),
            ("buffer export", "--destination", HOSTILE),
            ("buffer export", "--trace", HOSTILE),
            ("buffer snapshot", str(folder / "relay.db")),
            ("dead-letter replay", "1", "--to", HOSTILE),
        ]
        shown = {words: relay.run(*words) for words in commands}

    for words, found in shown.items():
        assert harmless(found.stdout + found.stderr), (words, found.stdout + found.stderr)
    seen = r"\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\u202eevil\u200b\r\nok  [/x] [bold]:smile:"
    assert f"from {seen} at" in shown["where", TRACE].stdout
    assert seen in shown["dead-letter list", "--all"].stdout
    assert seen.split(r"\r", maxsplit=1)[0] in shown["dead-letter show", "1"].stdout


def test_names_that_are_markup_do_not_end_a_command(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        relay.stop()
        connection = apsw.Connection(str(relay.state_dir / "relay.db"))
        for name in ("[/x]", "[bold]\x1b[2J", ":smile:"):
            connection.execute("INSERT INTO destinations VALUES (?, 0, x'')", (name,))
        connection.close()
        shown = relay.run("buffer check")

    assert harmless(shown.stdout)
    assert "[/x]" in shown.stdout
    assert r"[bold]\x1b[2J" in shown.stdout
    assert ":smile:" in shown.stdout


@pytest.mark.parametrize(
    "text",
    [
        'state_dir = "a\\u001b[2Jb"',
        '"\\u001b[2J\\u202e" = 1',
        '[destinations.up]\nendpoint = "http://h/\\u009b2J"',
        '[destinations."\\u001b[2J"]\nendpoint = "http://h/"',
        '[destinations.up]\nendpoint = "http://h/"\nencoding = "\\u001b[2J"',
        '[destinations.up]\nendpoint = "http://h/"\nheaders = { "\\u001b[2J" = "x" }',
        '[buffer]\nmax_size = "\\u001b[2J\\n"',
        'a = "\x1b[2J',
    ],
)
def test_check_config_shows_a_hostile_file_in_escapes(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "relay\u202e.toml"
    config.write_text(text)
    for command in ("check-config", "status", "doctor"):
        shown = CliRunner().invoke(main, [command, "--config", str(config)])
        assert harmless(shown.output), shown.output
        assert r"\u202e" in shown.output or command == "status"


def test_errors_of_usage_are_escaped_too(tmp_path: Path) -> None:
    for line in (
        ["destination", "add", HOSTILE, "--endpoint", "http://h/"],
        ["destination", "presets", HOSTILE],
        ["where", "--\x1b[2J"],
        ["\x1b[2J"],
    ):
        shown = CliRunner().invoke(main, line)
        assert shown.exit_code == 2
        assert harmless(shown.output), shown.output
