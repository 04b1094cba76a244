"""What the site itself knows of an order."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    number = models.CharField(max_length=64, unique=True)
    item = models.CharField(max_length=64)
    state = models.CharField(max_length=20, default="placed")
