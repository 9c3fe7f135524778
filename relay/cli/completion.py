"""`otlp-relay completion SHELL`: what lets a shell complete commands, options and names."""

import click
from click.shell_completion import get_completion_class

from relay.cli.output import say
from relay.model.errors import RelayError

PROGRAM = "otlp-relay"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands and options.

    \b
      bash: echo 'eval "$(otlp-relay completion bash)"' >> ~/.bashrc
      zsh:  echo 'eval "$(otlp-relay completion zsh)"' >> ~/.zshrc
      fish: otlp-relay completion fish > ~/.config/fish/completions/otlp-relay.fish
    """  # noqa: D301
    kind = get_completion_class(shell)
    if kind is None:
        raise RelayError(f"this version of click has no completion for {shell}")
    root = click.get_current_context().find_root().command
    made = kind(root, {}, PROGRAM, f"_{PROGRAM.upper().replace('-', '_')}_COMPLETE")
    # Not source(), which asks the installed bash for its version and may print about it.
    say(*(made.source_template % made.source_vars()).splitlines())
