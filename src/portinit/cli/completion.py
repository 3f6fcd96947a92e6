"""The command completion: the script that a shell sources."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from portinit.cli.app import portinit

_VARIABLE = "_PORTINIT_COMPLETE"  # what click looks for when the shell asks


@portinit.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes portinit's commands and options in a shell.

    bash: portinit completion bash >> ~/.bashrc; zsh: portinit completion zsh >> ~/.zshrc; fish:
    portinit completion fish > ~/.config/fish/completions/portinit.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None  # of the shells above
    click.echo(complete(portinit, {}, "portinit", _VARIABLE).source())
