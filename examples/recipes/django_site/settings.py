"""Settings of a site that keeps its sagas in its own database."""

from __future__ import annotations

import os
from pathlib import Path

DATABASE = Path(os.environ.get("SHOP_DATABASE", "site.db")).absolute()

SECRET_KEY = "not a secret: this is an example"
ALLOWED_HOSTS = ["localhost", "testserver"]
INSTALLED_APPS = ["shop"]
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        # Who reads first and writes then waits for other writers, rather than fails: SQLite's default is not made for several.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
SAGA_STORE = str(DATABASE)  # of PostgreSQL: its URL
