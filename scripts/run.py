"""`make run`: the relay, a mock collector as its destination, one test trace followed, then serve.

With CONFIG=FILE (or OTLP_RELAY_CONFIG) the relay runs on that and no mock collector is started.
Otherwise everything of it lies in `.otlp-relay/` of this checkout: no state of a host's service
is touched. What the two log lies there in any case, beside what is printed for who watches.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from relay.config.load import find, load
from relay.config.running import running
from relay.model.errors import SecretUnset

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".otlp-relay"
BIN = Path(sys.executable).parent
INGEST, MOCK, ADMIN = 4318, 4319, 4380
START_SECONDS = 15
SHOWN_LINES = 20

CONFIG = f"""\
# Written by `make run`; change what you like: it is only written when it is absent.
state_dir = "state"

[ingest]
listen = "127.0.0.1:{INGEST}"

[enrich]
attributes = {{ "deployment.environment.name" = "local" }}

[admin]
listen = "127.0.0.1:{ADMIN}"

[destinations.mock]
endpoint = "http://127.0.0.1:{MOCK}/v1/traces"
signals = ["traces", "logs", "metrics"]
headers = {{ Authorization = "Bearer make-run", X-Dataset = "traces" }}
"""


NEXT = """
serving: point an app here with

  export OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}
  export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf

and ask it, in another terminal:

  {command} status{option}
  {command} where {trace}{option}
  {command} doctor{option}
  {command} point --list{option}

Each request and delivery is a line in {log}.
Ctrl-C stops. See it in a browser:
"""


class Stopped(Exception):
    """Someone wants this to end."""


def main() -> int:
    """Start, show, serve; the exit code is the relay's."""
    given = os.environ.get("CONFIG") or os.environ.get("OTLP_RELAY_CONFIG")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    children: list[subprocess.Popen[bytes]] = []
    try:
        return run(given, children)
    except Stopped:
        print("\nstopping …", flush=True)
        return 0
    finally:
        for child in reversed(children):
            end(child)


def run(given: str | None, children: list[subprocess.Popen[bytes]]) -> int:
    """Everything in order; `children` grows as processes start."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    if given:
        config = Path(given)
    else:
        config = STATE / "relay.toml"
        if not config.exists():
            config.touch(mode=0o600)
            config.write_text(CONFIG)
        for port, whose in (
            (INGEST, "the relay"),
            (ADMIN, "its admin listener"),
            (MOCK, "the mock"),
        ):
            demand_free(port, whose)
        print(f"mock collector on http://127.0.0.1:{MOCK}, the relay's destination", flush=True)
        children.append(start("mockcollector", "serve", "--listen", f"127.0.0.1:{MOCK}",
                              "--require-header", "Authorization=Bearer make-run"))  # fmt: skip
        wait_for_mock(children[-1])
    print(f"relay with {shown(config)}", flush=True)
    relay = start("otlp-relay", "serve", "--config", str(config), "--log-level", "debug",
                  "--log-format", "text")  # fmt: skip
    children.append(relay)
    wait_until_ready(relay, config)
    print("\none test trace and its way:", flush=True)
    print(what_next(config, send_test_trace(config)), flush=True)
    show = [str(BIN / "otlp-relay"), "open", "--print", "--config", str(config)]
    subprocess.run(show, check=False)
    code = relay.wait()
    print(
        f"the relay ended with {code}; the end of its log:\n{end_of_log('otlp-relay')}", flush=True
    )
    return code


def send_test_trace(config: Path) -> str:
    """Show a test trace's way; its id, or the word for one where it got none."""
    tell = [str(BIN / "otlp-relay"), "send-test-trace", "--config", str(config)]
    told = subprocess.run(tell, check=False, stdout=subprocess.PIPE, text=True)
    print(told.stdout, end="", flush=True)
    if told.returncode:
        print("the test trace did not get through; the lines above say why", flush=True)
    found = re.match("trace ([0-9a-f]{32})\n", told.stdout)
    return found[1] if found else "TRACE_ID"


def what_next(config: Path, trace: str) -> str:
    """The lines to type next, which work as they are."""
    is_found = find(None, os.environ) is None and running(os.environ) == [config.absolute()]
    ingest = load(config, os.environ, forgiven=SecretUnset).ingest
    return NEXT.format(
        command=shown(BIN / "otlp-relay"),
        option="" if is_found else f" --config {shlex.quote(shown(config))}",
        trace=trace,
        log=shown(log_of("otlp-relay")),
        endpoint=f"{'https' if ingest.tls_cert else 'http'}://{ingest.listen[0].reachable}",
    )


def shown(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def stop(_signal: int, _frame: FrameType | None) -> None:
    """The first signal ends it; further ones wait for that."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def start(command: str, *arguments: str) -> subprocess.Popen[bytes]:
    """One of our commands in a session of its own: Ctrl-C reaches it through us, in order."""
    with log_of(command).open("wb") as log:
        return subprocess.Popen(
            [str(BIN / command), *arguments],
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def log_of(command: str) -> Path:
    """Where its lines are, those of this run alone."""
    return STATE / f"{command}.log"


def end_of_log(command: str) -> str:
    """Its last lines: those that say why it ended."""
    return "\n".join(log_of(command).read_text(errors="replace").splitlines()[-SHOWN_LINES:])


def end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL only when that is not heard."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def demand_free(port: int, whose: str) -> None:
    """Say who is in the way before anything starts."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(
                f"port {port} for {whose} is not free ({error.strerror}).\n"
                f"Who holds it: ss -ltnp 'sport = :{port}'. Stop that, or run the relay on other "
                f"ports with a config of your own: make run CONFIG=relay.toml"
            )


def wait_for_mock(child: subprocess.Popen[bytes]) -> None:
    """Until it accepts on its port, or ended."""
    deadline = time.monotonic() + START_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", MOCK), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    sys.exit(f"the mock collector did not come up; its log:\n{end_of_log('mockcollector')}")


def wait_until_ready(child: subprocess.Popen[bytes], config: Path) -> None:
    """Until `otlp-relay status` says that a span could be kept, or the relay ended."""
    deadline = time.monotonic() + START_SECONDS
    ask = [str(BIN / "otlp-relay"), "status", "--config", str(config), "--json"]
    while child.poll() is None and time.monotonic() < deadline:
        shown = subprocess.run(ask, check=False, capture_output=True)
        if shown.returncode == 0 and json.loads(shown.stdout)["ready"]:
            return
        time.sleep(0.05)
    print(f"the relay did not become ready; the end of its log:\n{end_of_log('otlp-relay')}")
    sys.exit(child.returncode or 1)


if __name__ == "__main__":
    sys.exit(main())
