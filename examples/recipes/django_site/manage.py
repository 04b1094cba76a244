"""``python manage.py migrate``, ``python manage.py runserver``, and beside it ``python manage.py saga_worker``."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
execute_from_command_line(sys.argv)
