"""``python manage.py saga_worker`` runs what the views submit, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from saga.worker import Worker
from shop.sagas import STORE, place_order


class Command(BaseCommand):
    help = "Runs the site's sagas."

    def handle(self, *arguments: Any, **options: Any) -> None:
        Worker(STORE, [place_order]).run()
