"""The command line: one command a file; each parses, prints and sets the exit code.

Exit codes: 0 done, 1 not done, 2 wrong usage. `serve` has its own: 0 stopped, 2 configuration,
70 a part of the daemon died.
"""

import click

from relay.cli.lazy import LazyGroup
from relay.version import __version__

COMMANDS = {
    "serve": "relay.cli.serve:serve",
    "check-config": "relay.cli.check_config:check_config",
    "destination": "relay.cli.destination:destination",
    "doctor": "relay.cli.doctor:doctor",
    "open": "relay.cli.open:open_page",
    "status": "relay.cli.status:status",
    "tail": "relay.cli.tail:tail",
    "top": "relay.cli.top:top",
    "where": "relay.cli.where:where",
    "genai": "relay.cli.genai:genai",
    "replay": "relay.cli.replay:replay",
    "dead-letter": "relay.cli.dead_letter:dead_letter",
    "buffer": "relay.cli.buffer:buffer",
    "fleet": "relay.cli.fleet:fleet",
    "send-test-trace": "relay.cli.send_test_trace:send_test_trace",
    "point": "relay.cli.point:point",
    "config": "relay.cli.config:config",
    "completion": "relay.cli.completion:completion",
}


# The mark keeps click from filling it as a paragraph.
FIRST_STEPS = """\b
First steps:
  otlp-relay serve                  in one terminal: takes data on localhost:4318
  otlp-relay send-test-trace        in another: posts a trace and follows it
  otlp-relay destination add NAME --endpoint URL
  otlp-relay doctor                 what is wrong, and what to do

A command is explained by `otlp-relay COMMAND --help`.
"""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=FIRST_STEPS,
)
@click.version_option(__version__, prog_name="otlp-relay")
def main() -> None:
    """Relay OpenTelemetry data: on disk before the 200, then to every destination that gets it."""
