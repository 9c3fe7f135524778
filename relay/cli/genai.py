"""`otlp-relay genai`: what models and agents did and what it cost, of what is kept."""

import sys
from collections.abc import Callable
from typing import Any

import click

from relay.cli.moments import MOMENT
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import print_table, say, say_json
from relay.cli.source import Source
from relay.genai.call import TOKENS
from relay.genai.summary import BY
from relay.model.units import about_duration
from relay.traces.kept_calls import MOST_SECONDS, Asked

Row = dict[str, Any]

# A look that waits for another one, and then takes its time.
RESPONSE_SECONDS = 3 * MOST_SECONDS
LOOK_SECONDS = 20.0
NOT_TOLD = "-"


@click.command()
@config_option
@click.option(
    "--since",
    "since_ns",
    type=MOMENT,
    default=0,
    help="Of what was received since: a duration ago (1h) or a time (2026-11-26T03:00).",
)
@click.option("--session", metavar="ID", default="", help="One session, with what happened in it.")
@click.option(
    "--by",
    type=click.Choice(list(BY)),
    default="model",
    show_default=True,
    help="What the table has a line for.",
)
@click.option(
    "--show-personal",
    is_flag=True,
    help="With e-mail addresses, prompts and arguments of tools, which are left out otherwise.",
)
@json_option
def genai(
    *,
    config_path: str | None,
    since_ns: int,
    session: str,
    by: str,
    show_personal: bool,
    as_json: bool,
) -> None:
    """Tell what models and agents did: calls, tokens, cost, time, errors, tools.

    Read from the spans, log records and metrics that are kept, each call once. A cost is what the
    sender says; a - stands for what nobody told. Exits 0, or 1 when nothing of a session that was
    named is found.
    """
    asked = Asked(
        since_ns=since_ns,
        by=by,
        session=session.strip(),
        show_personal=show_personal,
        seconds=LOOK_SECONDS,
    )
    found = Source(load_or_exit(config_path), RESPONSE_SECONDS).calls(asked)
    is_known = not asked.session or "entries" in found
    if as_json:
        say_json(found)
    elif not is_known:
        say(f"nothing is known of session {asked.session}")
        say(looked_line(found["looked"]))
    else:
        say(*summary_lines(found))
        if found["source"]:
            print_table(*_table(found))
        say(looked_line(found["looked"]))
    sys.exit(0 if is_known else 1)


def _table(found: dict[str, Any]) -> tuple[dict[str, Callable[[Row], str]], list[Row]]:
    if "entries" in found:
        return TIMELINE, found["entries"]
    return _columns(found["by"]), found["groups"]


def summary_lines(found: dict[str, Any]) -> list[str]:
    """The sums, a line for each thing that was told."""
    if not found["source"]:
        return ["nothing of models or agents is kept of that time"]
    told = {name: number(found[name]) for name in ("calls", "errors", *TOKENS)}
    lines = [
        f"calls    {told['calls']}, {told['errors']} failed (from {found['source']})",
        f"tokens   {told['input_tokens']} in, {told['output_tokens']} out",
        f"cached   {told['cache_read_tokens']} read, {told['cache_write_tokens']} written",
        f"thought  {told['reasoning_tokens']} of the tokens out",
        f"cost     {cost_words(found)}",
    ]
    latency = found["latency"]
    if latency["p50"] is not None:
        lines.append(f"time     half of the calls {ms(latency['p50'])}, 95 % {ms(latency['p95'])}")
    if found["tools"]:
        used = ", ".join(f"{name} {uses:,}" for name, uses in found["tools"].items())
        lines.append(f"tools    {used}; {number(found['tool_errors'])} failed")
    if found["tools_refused"]:
        refused = ", ".join(f"{name} {n:,}" for name, n in found["tools_refused"].items())
        lines.append(f"refused  {refused}")
    if found["content"]:
        lines.append(f"content  {found['content']}")
    return [*lines, ""]


def cost_words(found: dict[str, Any]) -> str:
    """The cost as it was told, and of how many calls it was not."""
    without = found["calls_without_cost"]
    if found["cost_usd"] is None:
        return "no cost sent"
    rest = f"; {without:,} calls without a cost" if without else ""
    return f"{dollars(found['cost_usd'])} as the sender says{rest}"


def looked_line(looked: dict[str, Any]) -> str:
    """How far the relay looked."""
    line = f"looked through {looked['items']:,} items in {looked['rows']:,} rows"
    if looked["back_to"]:
        line += f", back to {looked['back_to']}"
    if not looked["is_complete"]:
        line += f"; there is more: it ended for {looked['ended']} (ask for less with --since)"
    return line


def _columns(by: str) -> dict[str, Callable[[Row], str]]:
    title = by.upper()
    if by == "tool":
        return {
            title: lambda row: row["name"],
            "USES": lambda row: number(row["uses"]),
            "FAILED": lambda row: number(row["errors"]),
            "REFUSED": lambda row: number(row["refused"]),
        }
    columns = {
        title: lambda row: row["name"] or "(not told)",
        "CALLS": lambda row: number(row["calls"]),
        "ERRORS": lambda row: number(row["errors"]),
        "IN": lambda row: number(row["input_tokens"]),
        "CACHED": lambda row: number(row["cache_read_tokens"]),
        "OUT": lambda row: number(row["output_tokens"]),
        "COST": lambda row: dollars(row["cost_usd"]),
        "P50": lambda row: ms(row["p50_ms"]),
        "P95": lambda row: ms(row["p95_ms"]),
    }
    if by not in ("model", "provider"):
        columns["TOOLS"] = lambda row: number(row["tool_uses"])
    return columns


WORDS = {"call": "call", "error": "call", "tool": "tool", "refusal": "refused", "prompt": "prompt"}
TIMELINE: dict[str, Callable[[Row], str]] = {
    "TIME": lambda entry: entry["at"] or NOT_TOLD,
    "WHAT": lambda entry: WORDS[entry["kind"]] + (" FAILED" if entry["is_error"] else ""),
    "MODEL OR TOOL": lambda entry: entry.get("model") or entry.get("tool") or "",
    "IN": lambda entry: number(entry["input_tokens"]) if "input_tokens" in entry else "",
    "OUT": lambda entry: number(entry["output_tokens"]) if "output_tokens" in entry else "",
    "COST": lambda entry: dollars(entry["cost_usd"]) if "cost_usd" in entry else "",
    "TOOK": lambda entry: ms(entry["latency_ms"]),
    "SAID": lambda entry: entry.get("error") or entry["text"],
}


def number(value: float | None) -> str:
    """A count; a dash for one that nobody told."""
    return NOT_TOLD if value is None else f"{value:,}"


def dollars(value: float | None) -> str:
    """A cost, with as many digits as small ones need."""
    if value is None:
        return NOT_TOLD
    return f"${value:,.4f}" if value >= 0.01 or not value else f"${value:.7f}"


def ms(value: float | None) -> str:
    """A time in words."""
    if value is None:
        return NOT_TOLD
    return f"{value:.0f} ms" if value < 1000 else about_duration(value / 1000)
