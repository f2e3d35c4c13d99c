"""`streamgauge completion`: what a shell needs to complete our commands."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL.

    \b
    Examples:
      eval "$(streamgauge completion bash)"                      # in ~/.bashrc
      eval "$(streamgauge completion zsh)"                       # in ~/.zshrc
      streamgauge completion fish > ~/.config/fish/completions/streamgauge.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    root = ctx.find_root()
    click.echo(found(root.command, {}, "streamgauge", "_STREAMGAUGE_COMPLETE").source())
