"""The command `mockcollector check`: options and a command in, its conformance card out."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--only", multiple=True, metavar="NAME", help="This scenario, or those: retry-*. Repeatable."
)
@click.option("--skip", multiple=True, metavar="NAME", help="Not this one. Repeatable.")
@click.option("--list", "is_list", is_flag=True, help="Print the scenarios and end.")
@click.option(
    "--protocol",
    type=click.Choice(["http/protobuf", "http/json"]),
    default="http/protobuf",
    show_default=True,
    envvar="OTEL_EXPORTER_OTLP_PROTOCOL",
    help="What OTEL_EXPORTER_OTLP_PROTOCOL is set to.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="So many runs at the same time.",
)
@click.option("--strict", "is_strict", is_flag=True, help="A failed SHOULD is exit code 1, too.")
@click.option("--name", default="", help="What the card is of, instead of the command.")
@click.option("--json", "is_json", is_flag=True, help="The card as JSON.")
@click.option("--junit", type=_FILE, metavar="FILE", help="Write JUnit XML there as well.")
@click.option("--badge", type=_FILE, metavar="FILE", help="Write an SVG badge there as well.")
@click.option("--markdown", type=_FILE, metavar="FILE", help="Write a page there as well.")
@click.option("--quiet", "is_quiet", is_flag=True, help="No progress on stderr.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def check(  # noqa: PLR0913 - options are parameters
    *,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    is_list: bool,
    protocol: str,
    jobs: int,
    is_strict: bool,
    name: str,
    is_json: bool,
    junit: Path | None,
    badge: Path | None,
    markdown: Path | None,
    is_quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND through faults and settings, and say how its exporter keeps to OTLP.

    COMMAND makes a span, a log record or a data point or some of each, exports them by OTLP/HTTP
    as OTEL_EXPORTER_OTLP_ENDPOINT and its like say, and ends. It is run about fifty times. The exit
    code is 1 when the exporter breaks a MUST, 2 when it could not be tried.
    """
    from mockcollector.check import card as cards
    from mockcollector.check import render, runner
    from mockcollector.check.scenarios import UnknownScenarioError, chosen

    try:
        scenarios = chosen(only, skip)
    except UnknownScenarioError as error:
        raise click.UsageError(str(error)) from None
    if is_list:
        for each in scenarios:
            click.echo(f"{each.clause.level:<8}{each.name:<24}{each.title}")
        return
    if not command:
        raise click.UsageError("say what to run: mockcollector check -- COMMAND")
    with tempfile.TemporaryDirectory(prefix="mockcollector-check-") as folder:
        plan = runner.Plan(
            command=command,
            protocol=protocol,
            jobs=jobs,
            authority=runner.certificates(Path(folder)),
            name=name,
        )
        try:
            card = runner.check(plan, scenarios, _tell(is_quiet=is_quiet))
        except OSError as error:
            raise click.UsageError(f"cannot run {command[0]!r}: {error.strerror}") from None
        except runner.NothingSentError as error:
            raise click.UsageError(str(error)) from None
    click.echo(render.as_json(card) if is_json else render.as_text(card), nl=False)
    pages: list[tuple[Path | None, Callable[[], str]]] = [
        (junit, lambda: render.as_junit(card, is_strict=is_strict)),
        (badge, lambda: render.as_badge(card)),
        (markdown, lambda: render.as_markdown(card)),
    ]
    for path, make in pages:
        if path is not None:
            path.write_text(make(), encoding="utf-8")
    sys.exit(cards.exit_code(card, is_strict=is_strict))


def _tell(*, is_quiet: bool) -> Callable[[str], None]:
    def tell(line: str) -> None:
        if not is_quiet:
            click.echo(line, err=True)

    return tell
