"""Follow one span through the relay with a profiler: how many files a reader has to open for it.

    .venv/bin/python scripts/follow_span.py [--runs 5] [--verbose] [--json] [--src CHECKOUT]

Runs the daemon itself in this process (`otlp-relay serve`, with an upstream and a sender outside
of relay/), warms connections and caches with some requests, then sends one JSON span a run.

in   socket → disk → 200: what is called in the event loop outside of tasks, and in the writer's
     thread until it hands its news to the loop; until `Exchange.respond` has written the 200.
out  disk → upstream → settled: what the courier's task calls, and what the event loop calls for its
     connection, until the outermost `settle` returns.

A stay is a run of calls of functions in one file of relay/, in order of time. `files` counts the
different ones, `moves` the changes from one to another, `returns` the moves into a file that was
left before; so moves = files - 1 + returns. A call counts where a function starts. A coroutine or
generator that goes on does not: nothing new is entered, and the event loop goes through the whole
chain of those that await. `with resumes` counts those, too.

`around it` is everything in that time: calls and resumes, housekeeping of the writer's thread, the
way of the courier back to its rest and the commit of what was settled; not the tasks of others,
such as the sweep of idle connections.

The two trips overlap in time: the courier sends while the request is still being answered. They
are told apart by task and thread, so that nothing has to be held up for it.
"""

import argparse
import asyncio
import dis
import functools
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent.parent
WARM_UP_REQUESTS = 5
QUIET_SECONDS = 1.0  # longer than what is put off is put off
DEADLINE_SECONDS = 20.0
TRIPS = {"in": "socket → disk → 200", "out": "disk → upstream → settled"}


class Call(NamedTuple):
    """An entry into a function of relay/. Without a file: a thread hands over to the loop."""

    thread: int
    task: int  # 0: none
    file: str
    function: str
    is_resume: bool = False


class Count(NamedTuple):
    """How a sequence of calls goes through files."""

    files: int
    moves: int
    returns: int


class Trip(NamedTuple):
    """What was called on the way, and what was called while it lasted."""

    calls: list[Call]
    with_resumes: list[Call]
    around: list[Call]


class Recorder:
    """The profile function of every thread. Between `begin` and `end` it keeps what is called."""

    def __init__(self, package: Path) -> None:
        self._prefix = f"{package}{os.sep}"
        self._loop_thread = threading.get_ident()
        self._settling: FrameType | None = None
        self._answering: FrameType | None = None
        self._is_on = False
        self._old_tasks: set[asyncio.Task[Any]] = set()
        self.calls: list[Call] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.settled = threading.Event()
        self.settled_at = 0
        self.answered_at = 0

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """As `sys.setprofile` wants it."""
        if not self._is_on:
            return
        if event == "return":
            if frame is self._settling:
                self._settling, self.settled_at = None, len(self.calls)
                self.settled.set()
            elif frame is self._answering:
                self._answering, self.answered_at = None, len(self.calls)
            return
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._prefix):
            return
        thread = threading.get_ident()
        task = current_task() if thread == self._loop_thread else None
        if task in self._old_tasks and code.co_name == "settle" and not self.settled.is_set():
            self._settling = self._settling or frame
        if code.co_qualname == "Exchange.respond":
            self._answering = frame
        name = code.co_filename.removeprefix(self._prefix)
        is_resume = frame.f_lasti > start_of(code)
        self.calls.append(Call(thread, id(task or 0), name, code.co_qualname, is_resume))

    def note_handover(self, loop: asyncio.AbstractEventLoop) -> None:
        """Another thread gives the event loop something to do."""
        self.loop = loop
        if self._is_on and threading.get_ident() != self._loop_thread:
            self.calls.append(Call(threading.get_ident(), 0, "", ""))

    def begin(self) -> None:
        """Keep what is called from now on."""
        if self.loop is None:
            raise RuntimeError("no thread ever handed anything to the event loop")
        self._old_tasks = asyncio.all_tasks(self.loop)
        self.calls = []
        self.settled.clear()
        self._is_on = True

    def end(self) -> dict[str, Trip]:
        """Both trips."""
        self._is_on = False
        couriers = {id(task) for task in self._old_tasks if task.get_name().startswith("courier")}
        no_task = id(0)
        is_loop = [call.thread == self._loop_thread for call in self.calls]
        handover = next(at for at, call in enumerate(self.calls) if not call.file)
        writer = self.calls[handover].thread
        answered = self.answered_at - 1
        inwards: list[Call] = []
        outwards: list[Call] = []
        around_in: list[Call] = []
        around_out: list[Call] = []
        for at, call in enumerate(self.calls):
            if not call.file:
                continue
            if call.task in couriers or (call.task == no_task and is_of_exchange(call)):
                around_out.append(call)
                if at < self.settled_at:
                    outwards.append(call)
            elif call.thread == writer or (is_loop[at] and call.task == no_task):
                if at <= answered and (is_loop[at] or at < handover):
                    inwards.append(call)
                (around_in if at <= answered else around_out).append(call)
        return {
            "in": Trip(started(inwards), inwards, around_in),
            "out": Trip(started(outwards), outwards, around_out),
        }


def is_of_exchange(call: Call) -> bool:
    """Whether the event loop calls it for a connection to an upstream."""
    return call.file.startswith(f"upstream{os.sep}")


@functools.cache
def start_of(code: CodeType) -> int:
    """Where a function is when its first call is told."""
    return next(each.offset for each in dis.get_instructions(code) if each.opname == "RESUME")


def current_task() -> "asyncio.Task[Any] | None":
    """The task that runs in this thread, if one does."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def started(calls: Iterable[Call]) -> list[Call]:
    """Those that start a function."""
    return [call for call in calls if not call.is_resume]


def count(calls: Iterable[Call]) -> Count:
    """The stays of `calls`."""
    seen: set[str] = set()
    before = ""
    moves = returns = 0
    for call in calls:
        if call.file != before:
            moves += bool(before)
            returns += call.file in seen
            seen.add(call.file)
            before = call.file
    return Count(len(seen), moves, returns)


class Upstream(BaseHTTPRequestHandler):
    """Takes everything."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, so that the relay reads once

    def do_POST(self) -> None:
        """Read it all and answer as a collector does."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class Sender:
    """One connection to the relay, kept."""

    def __init__(self, port: int) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def send(self) -> None:
        """One span, and its 200."""
        body = json.dumps(one_span()).encode()
        head = (
            "POST /v1/traces HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        answer = b""
        while not answer.endswith(b"\r\n\r\n{}"):
            piece = self._socket.recv(65536)
            answer += piece
            if not piece or not answer.startswith(b"HTTP/1.1 200 "[: len(answer)]):
                raise RuntimeError(f"the relay answered {answer!r}")


def one_span() -> dict[str, Any]:
    """An export request with one span, never the same twice."""

    def attribute(key: str, value: str) -> dict[str, Any]:
        return {"key": key, "value": {"stringValue": value}}

    start_ns = time.time_ns()
    span = {
        "traceId": os.urandom(16).hex(),
        "spanId": os.urandom(8).hex(),
        "name": "GET /orders/{id}",
        "kind": 2,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + 1_000_000),
        "attributes": [attribute("http.request.method", "GET")],
    }
    scope = {"scope": {"name": "follow"}, "spans": [span]}
    resource = {"attributes": [attribute("service.name", "shop")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def follow(source: Path, runs: int) -> list[dict[str, Trip]]:
    """Serve, send `runs` spans one after the other and tell the trips of each."""
    sys.path.insert(0, str(source))
    import relay
    from relay.cli import main as otlp_relay

    package = Path(str(relay.__file__)).resolve().parent
    if package != source / "relay":
        sys.exit(f"`import relay` gives {package}, not what is in {source}")
    recorder = Recorder(package)
    watch_handovers(recorder)
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    upstream.daemon_threads = True
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    found: list[dict[str, Trip]] = []
    failures: list[Exception] = []
    with tempfile.TemporaryDirectory() as folder:
        port, config = free_port(), Path(folder) / "relay.toml"
        config.touch(mode=0o600)
        config.write_text(
            f'state_dir = "state"\n[ingest]\nlisten = "127.0.0.1:{port}"\n'
            f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n[buffer]\nmin_free = "16MiB"\n'
            f'[destinations.up]\nendpoint = "http://127.0.0.1:{upstream.server_port}/v1/traces"\n'
            f'headers = {{ Authorization = "Bearer x" }}\n'
        )
        threading.setprofile(recorder)
        sys.setprofile(recorder)
        arguments = (recorder, port, runs, found, failures)
        threading.Thread(target=drive, args=arguments, daemon=True).start()
        try:
            otlp_relay(["serve", "--config", str(config), "--log-level", "warning"])
        except SystemExit as ended:
            if ended.code:
                raise
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    if failures:
        raise failures[0]
    return found


def drive(
    recorder: Recorder,
    port: int,
    runs: int,
    found: list[dict[str, Trip]],
    failures: list[Exception],
) -> None:
    """The sender's side, in a thread of its own: the daemon wants the main one for its signals."""
    try:
        sender = Sender(port)
        for _ in range(WARM_UP_REQUESTS):
            sender.send()
            time.sleep(QUIET_SECONDS / 2)
        for _ in range(runs):
            time.sleep(QUIET_SECONDS)
            recorder.begin()
            sender.send()
            if not recorder.settled.wait(DEADLINE_SECONDS):
                raise TimeoutError("the courier never came to the end of a `settle`")
            time.sleep(QUIET_SECONDS)
            found.append(recorder.end())
    except Exception as error:  # noqa: BLE001 - told when the daemon has ended
        failures.append(error)
    os.kill(os.getpid(), signal.SIGTERM)


def watch_handovers(recorder: Recorder) -> None:
    """Tell `recorder` of each call that a thread makes into the event loop."""
    import uvloop

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def call_soon_threadsafe(
            loop: asyncio.AbstractEventLoop, *arguments: Any, **named: Any
        ) -> Any:
            recorder.note_handover(loop)
            return call(loop, *arguments, **named)

        return call_soon_threadsafe

    for kind in (uvloop.Loop, asyncio.BaseEventLoop):
        kind.call_soon_threadsafe = watched(kind.call_soon_threadsafe)  # type: ignore[method-assign]


def free_port() -> int:
    """A port of this host that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spread(values: Iterable[int]) -> str:
    """One number, or from-to."""
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def show(found: list[dict[str, Trip]]) -> None:
    """The table."""
    print(f"{'':46}{'files':>9}{'moves':>9}{'returns':>9}")
    for name, title in TRIPS.items():
        for at, kind in enumerate(("", ", with resumes", ", and what is around it")):
            counts = [count(trips[name][at]) for trips in found]
            cells = "".join(f"{spread(column):>9}" for column in zip(*counts, strict=True))
            print(f"{title + kind:46}{cells}")


def show_calls(trips: dict[str, Trip]) -> None:
    """Every call of each trip, a stay a paragraph, and how often a file is entered."""
    for name, title in TRIPS.items():
        print(f"\n{title}\n")
        stays: dict[str, int] = {}
        before = ""
        for call in trips[name].calls:
            if call.file != before:
                mark = "again" if call.file in stays else "first"
                stays[call.file] = stays.get(call.file, 0) + 1
                print(f"  {call.file}  ({mark})")
            print(f"      {call.file}:{call.function}")
            before = call.file
        print(f"\n  stays in each of {len(stays)} files")
        for file, times in sorted(stays.items(), key=lambda each: (-each[1], each[0])):
            print(f"  {times:4}  {file}")


def as_json(found: list[dict[str, Trip]]) -> dict[str, Any]:
    """The counts of every run and the files of the last, for machines."""
    return {
        name: {
            "calls": [count(trips[name].calls)._asdict() for trips in found],
            "with_resumes": [count(trips[name].with_resumes)._asdict() for trips in found],
            "around": [count(trips[name].around)._asdict() for trips in found],
            "files": sorted({call.file for call in found[-1][name].calls}),
        }
        for name in TRIPS
    }


def main() -> None:
    """Follow the span and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="spans to follow, one at a time")
    parser.add_argument("--verbose", action="store_true", help="every call of the last run")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--src", type=Path, default=HERE, help="a checkout that holds relay/")
    options = parser.parse_args()
    found = follow(options.src.resolve(), max(options.runs, 1))
    if options.json:
        print(json.dumps(as_json(found), indent=2))
        return
    show(found)
    if options.verbose:
        show_calls(found[-1])


if __name__ == "__main__":
    main()
