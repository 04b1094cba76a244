"""``saga web``: the page, served on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from saga.cli.certifying import certified_in, read
from saga.cli.exits import DONE
from saga.cli.options import Settings, common
from saga.cli.shown import line

__all__ = ["COMMANDS"]


@click.command()
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="Where it listens.")
@click.option("--port", type=click.IntRange(1, 65535), default=8765, metavar="N", help="At which port.")
@click.option(
    "--token",
    metavar="SECRET",
    help="Whoever gives it can act, under a name of their own; at least 16 characters. Nobody can where it is not given.",
)
@click.option("--private", is_flag=True, help="Whoever only looks has to give the token, too.")
@certified_in
@common
@click.pass_obj
def web(settings: Settings, /, host: str, port: int, token: str | None, private: bool, certificates: Path | None) -> int:
    """Serve the page until SIGTERM, SIGINT or Ctrl-C."""
    from saga.errors import SagaDefinitionError
    from saga.web import app, serve

    known = read(settings, certificates)
    try:
        page = app(settings.store(), sagas=settings.sagas, token=token, private=private, certificates=known)
        at = f"[{host}]" if ":" in host else host
        acting = "" if token is not None else "; nobody can act there without --token"
        click.echo(line(f"saga: http://{at}:{port}/ has the page{acting}; SIGTERM or Ctrl-C stops it"), err=True)
        serve(page, host=host, port=port)
    except SystemExit as ended:  # it has said why on the standard error stream
        raise click.UsageError(f"nothing can be served at {at}:{port}; is the port taken?") from ended
    except (ModuleNotFoundError, SagaDefinitionError) as error:
        raise click.UsageError(str(error)) from error
    return DONE


COMMANDS: Final = {"web": web}
