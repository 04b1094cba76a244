"""``saga schema``: a store's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from saga.cli.exits import usage
from saga.cli.options import Settings, common
from saga.cli.shown import say

__all__ = ["COMMANDS"]


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL, for those who may make tables; nothing is connected to.")
@click.option("--prefix", metavar="TEXT", help="With --sql: what the tables' names begin with.")
@click.option("--schema", metavar="NAME", help="With --sql, of PostgreSQL: the schema that they are made in.")
@click.option("--role", metavar="NAME", help="With --sql: the role that the store connects as, to be granted what it needs.")
@common
@click.pass_obj
def schema(settings: Settings, sql: bool, prefix: str | None, schema: str | None, role: str | None) -> None:
    """Make the tables of a store, or lead those of an earlier release forward.

    With --sql, --store may be the name of a dialect, too: sqlite, postgresql, mysql, mariadb.
    """
    from saga.storage import open_store, schema_sql

    store = settings.store(make=True, needed=not sql)
    if store is None:
        raise click.UsageError("of which dialect? Give --store sqlite, postgresql, mysql or mariadb, or the URL of a store")
    if not sql:
        if prefix or schema or role:
            raise click.UsageError("--prefix, --schema and --role are for --sql; give it, too")
        if not isinstance(store, str):
            raise click.UsageError("give the path or the URL of the store; --sql prints the statements")
        open_store(store).close()
        say("the tables are there, as this release uses them")
        return
    named = str(store)
    with usage():
        click.echo(
            schema_sql(
                named if "://" in named or named.isalpha() else Path(named),
                **({} if prefix is None else {"prefix": prefix}),
                schema=schema,
                role=role,
            )
        )


COMMANDS: Final = {"schema": schema}
