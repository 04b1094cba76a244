"""Make ``orders.jsonl``: the same orders every time. Usage: ``python make_orders.py [PATH]``."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import asdict
from pathlib import Path

from databases import CARDS, CATALOGUE
from orders import Address, Item, Order

ORDERS = Path(__file__).with_name("orders.jsonl")
# Nine and ten have no common factor, so the 90 customers have 90 names.
FIRST = ("Aylin", "Beat", "Chiara", "Daan", "Elif", "Georg", "Karim", "Léa", "Noor")
LAST = ("Aebischer", "Clarke", "Dubois", "Fischer", "Huber", "Jansen", "Keller", "Laurent", "Novak", "Okafor")
STREETS = ("Bahnhofstrasse", "Church Lane", "Dorpsstraat", "Gartenweg", "Lindenallee", "Rue du Moulin", "Seestrasse")
PLACES = (
    ("Wien", "1070", "AT"),
    ("Graz", "8010", "AT"),
    ("Zürich", "8004", "CH"),
    ("Basel", "4051", "CH"),
    ("Berlin", "10245", "DE"),
    ("Hamburg", "22767", "DE"),
    ("Leipzig", "04109", "DE"),
    ("Lyon", "69004", "FR"),
    ("Rennes", "35000", "FR"),
    ("Leeds", "LS1 4DY", "GB"),
    ("London", "E2 8AA", "GB"),
    ("Utrecht", "3511 LX", "NL"),
)
UNREACHABLE = (
    ("Grytviken", "SIQQ 1ZZ", "GS"),  # not served
    ("Longyearbyen", "9170", "SJ"),  # not served
    ("Berlin", "1245", "DE"),  # a digit is missing
    ("Utrecht", "3511", "NL"),  # the letters are missing
    ("London", "E2", "GB"),  # half of it
)


def make_orders(count: int = 300, seed: int = 20_240_611) -> list[Order]:
    """Return ``count`` orders of the shop's 90 customers, most of them for a few everyday things."""
    dice = random.Random(seed)
    customers = [f"{FIRST[n % len(FIRST)]} {LAST[n % len(LAST)]}" for n in range(len(CARDS))]
    *common, lever, kyusu, geisha = (sku for sku, _, _ in CATALOGUE)
    orders = []
    for number in range(count):
        customer = dice.randrange(len(CARDS))
        skus = sorted({dice.choice(common) for _ in range(dice.choice((1, 1, 2, 2, 3)))})
        items = [Item(sku, dice.choice((1, 1, 1, 2, 2, 4))) for sku in skus]
        if dice.random() < 0.15:
            items.append(Item(dice.choice((lever, kyusu, geisha, geisha)), 1))
        city, postcode, country = dice.choice(UNREACHABLE if dice.random() < 0.06 else PLACES)
        street = f"{dice.choice(STREETS)} {dice.randint(1, 120)}"
        orders.append(
            Order(
                order_id=f"2024-{10_001 + number}",
                customer=customers[customer],
                card=CARDS[customer][0],
                items=tuple(items),
                address=Address(street, city, postcode, country),
            )
        )
    return orders


def main(path: Path = ORDERS) -> None:
    """Write the orders, one JSON object a line."""
    lines = [json.dumps(asdict(order), ensure_ascii=False) + "\n" for order in make_orders()]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
