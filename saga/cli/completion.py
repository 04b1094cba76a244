"""``saga completion``: what a shell reads, so that it completes commands, options and ids."""

from __future__ import annotations

from typing import Final

import click

__all__ = ["COMMANDS"]


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print a script for a shell, which completes commands, options, statuses, and the ids of executions.

    \b
    bash   eval "$(saga completion bash)"                             in ~/.bashrc
    zsh    eval "$(saga completion zsh)"                              in ~/.zshrc
    fish   saga completion fish > ~/.config/fish/completions/saga.fish
    """
    from click.shell_completion import get_completion_class

    from saga.cli.commands import root

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(root, {}, "saga", "_SAGA_COMPLETE").source())


COMMANDS: Final = {"completion": completion}
