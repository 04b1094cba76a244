"""``saga worker``: runs what was submitted, and what dead processes left."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

from saga.cli.definitions import named_sagas
from saga.cli.exits import DONE, worst
from saga.cli.options import SECONDS, Settings, common, needs_definitions
from saga.cli.records import print_records
from saga.cli.running import ended
from saga.cli.shown import counted, line, say, status

if TYPE_CHECKING:
    from saga.worker import Parked

__all__ = ["COMMANDS"]


@click.command()
@click.option("--workers", type=click.IntRange(1), default=4, metavar="N", help="Threads for synchronous executions.")
@click.option("--concurrency", type=click.IntRange(1), default=100, metavar="N", help="Asynchronous executions at once.")
@click.option(
    "--max-attempts", type=click.IntRange(1), default=10, metavar="N", help="Claims without getting on, then it is stuck."
)
@click.option(
    "--finish",
    type=click.Choice(("executions", "calls")),
    default="executions",
    help="What is finished when it is to stop; other workers go on with the rest.",
)
@click.option("--grace", type=SECONDS, default=30.0, metavar="TIME", help="How long that may take.")
@click.option(
    "--unfit-after", type=SECONDS, default=600.0, metavar="TIME", help="How long what no definition fits is left to others."
)
@click.option("--interval", type=SECONDS, default=1.0, metavar="TIME", help="Between looks into the store.")
@click.option(
    "--transaction", "transactions", multiple=True, metavar="NAME", help="The name of a block, to undo those that died."
)
@click.option(
    "--module", "modules", multiple=True, metavar="MODULE", help="Where the functions of blocks are, besides what is imported."
)
@click.option("--once", is_flag=True, help="Run what is there to be run now, tell of it, and end.")
@click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="info",
    help="What is written to the standard error stream.",
)
@click.option("--metrics-port", type=click.IntRange(1, 65535), metavar="N", help="Serve /metrics for Prometheus at this port.")
@click.option("--metrics-host", default="127.0.0.1", metavar="ADDRESS", help="... where it listens.")
@common
@click.pass_obj
def worker(
    settings: Settings,
    /,
    interval: float,
    transactions: tuple[str, ...],
    modules: tuple[str, ...],
    once: bool,
    log_level: str,
    metrics_port: int | None,
    metrics_host: str,
    **options: Any,
) -> int:
    """Run executions until SIGTERM, SIGINT or Ctrl-C; what is in hand then is finished first.

    Each that is stuck is said. What else happens in executions is logged where their sagas have a logger.
    """
    from saga.worker import Worker

    sagas = settings.sagas if transactions else needs_definitions(settings, "worker")
    store = settings.store(make=True)
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)-8s %(message)s")
    codec = settings.codec(*modules) if transactions else None
    if transactions and codec is None:
        raise click.UsageError("--transaction needs --module MODULE, where the functions are that undo the block")
    made = Worker(store, sagas, transactions=transactions, codec=codec, **options)
    if metrics_port is not None:
        _serve_metrics(store, metrics_host, metrics_port)
    if once:
        ran = made.run_once()
        if settings.form != "text":
            records = [*(ended(result).record for result in ran), *map(_parked, ran.parked)]
            print_records(settings.form, "results", records)
        else:
            for result in ran:
                say(line(f"{status(str(result.status)).partition(' ')[0]} {result.headline()}"))
            for parked in ran.parked:
                say(line(f"{status('stuck').partition(' ')[0]} {parked.saga_id}: {parked.reason}"))
            say(counted(len(ran) + len(ran.parked)))
        return max(worst(str(result.status) for result in ran), worst("stuck" for _ in ran.parked))
    names = ", ".join(part for part in (named_sagas(sagas), *map(repr, transactions)) if part)
    click.echo(line(f"saga: a worker for {names}; SIGTERM or Ctrl-C stops it"), err=True)
    made.run(interval=interval)
    return DONE


def _parked(parked: Parked) -> dict[str, Any]:
    """Return the record of what was left to a person: as that of a result."""
    return {
        "saga_id": parked.saga_id,
        "name": parked.saga,
        "status": "stuck",
        "reason": parked.reason,
        "error": None,
        "in_doubt": [],
        "elapsed": 0.0,
    }


def _serve_metrics(store: Any, host: str, port: int) -> None:
    """Serve what this process counts, and what the store has, until it ends.

    :raises click.UsageError: the library is not installed, or the port is taken.
    """
    try:
        from prometheus_client import start_http_server

        from saga.integrations.prometheus import StoreCollector

        start_http_server(port, host)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"metrics need {error.name}: pip install 'saga-tasks[prometheus]'") from error
    except OSError as error:
        raise click.UsageError(f"--metrics-port {port}: {error.strerror}") from error
    with suppress(ValueError):  # a module of the user's has it served already
        StoreCollector(store)


COMMANDS: Final = {"worker": worker}
