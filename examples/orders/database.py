"""The application's own tables, in the database in which the sagas are, too. ``python -m orders.database`` makes both."""

from __future__ import annotations

import psycopg

from orders.settings import DATABASE
from saga.storage import open_store

TABLES = """
CREATE TABLE IF NOT EXISTS stock (
    product text PRIMARY KEY,
    price_cents integer NOT NULL,
    begun integer NOT NULL,  -- how many there were when the shop opened
    remaining integer NOT NULL CHECK (remaining >= 0)
);
CREATE TABLE IF NOT EXISTS orders (
    number text PRIMARY KEY,
    email text NOT NULL,
    product text NOT NULL REFERENCES stock,
    quantity integer NOT NULL,
    state text NOT NULL DEFAULT 'placed',  -- then sold, and returned where a sale was taken back
    cents integer
);
CREATE TABLE IF NOT EXISTS points (
    number text PRIMARY KEY REFERENCES orders,
    points integer NOT NULL
);
"""
STOCK = [("mug", 950, 400), ("lamp", 4900, 200), ("piano", 249_900, 15)]


def main() -> None:
    """Make what is not there yet."""
    open_store(DATABASE).close()
    with psycopg.connect(DATABASE) as connection:
        connection.execute(TABLES)
        for product, price, number in STOCK:
            connection.execute(
                "INSERT INTO stock VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", (product, price, number, number)
            )


if __name__ == "__main__":
    main()
