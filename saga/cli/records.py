"""What ``--json`` and ``--jsonl`` print: records of stable names and types, times in ISO 8601: see docs/guide/cli.rst."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from saga.plain import text_of

__all__ = ["RECORDS", "print_record", "print_records", "record", "time"]

RECORDS: Final[dict[str, dict[str, str]]] = {
    "execution": {
        "saga_id": "text",
        "name": "text",
        "version": "text",
        "fingerprint": "text",
        "status": "text",
        "step": "text or null",
        "reason": "text or null",
        "cause": "text or null",
        "tags": "object",
        "priority": "number",
        "exclusive": "text or null",
        "created": "time",
        "opens": "time or null",
        "started": "time or null",
        "progressed": "time or null",
        "updated": "time",
        "owner": "text or null",
        "lease_until": "time or null",
        "recoveries": "number",
    },
    "count": {
        "name": "text",
        "status": "text",
        "version": "text",
        "fingerprint": "text",
        "step": "text or null",
        "cause": "text or null",
        "reason": "text or null",
        "executions": "number",
    },
    "entry": {"seq": "number", "at": "time", "kind": "text", "step": "text or null", "details": "object"},
    "view": {
        "execution": "execution",
        "steps": "list of step",
        "errors": "list of error",
        "decisions": "list of decision",
        "offers": "list of offer",
        "refused": "object",
        "waits": "text or null",
        "inbox": "list",
    },
    "step": {
        "name": "text",
        "status": "text",
        "effect": "text",
        "in_doubt": "true or false",
        "attempts": "number",
        "compensation_attempts": "number",
        "began": "time or null",
        "ended": "time or null",
        "elapsed": "number",
        "error": "text or null",
        "compensation_error": "text or null",
        "verified": "true, false or null",
        "next_at": "time or null",
        "result": "text or null",
        "path": "list",
        "asks": "true or false",
        "settled": "text or null",
        "waits_for": "text or null",
    },
    "decision": {
        "action": "text",
        "step": "text or null",
        "who": "text",
        "why": "text",
        "at": "time",
        "signal": "text or null",
    },
    "error": {
        "type": "text",
        "text": "text",
        "traceback": "text or null",
        "step": "text or null",
        "phase": "text or null",
        "attempt": "number or null",
        "at": "time",
    },
    "offer": {"action": "text", "step": "text or null", "does": "text", "signal": "text or null"},
    "moment": {
        "saga_id": "text",
        "saga": "text",
        "status": "text",
        "seq": "number",
        "when": "time",
        "step": "text or null",
        "phase": "text or null",
        "attempt": "number or null",
        "context": "object",
        "results": "object",
        "error": "text or null",
        "followed": "list of entry",
        "again": "again or null",
    },
    "again": {
        "returned": "true or false",
        "result": "any",
        "error": "text or null",
        "traceback": "text or null",
        "changes": "object",
        "removed": "list",
        "refused": "list",
        "follows": "text or null",
        "command": "text or null",
        "does": "text or null",
    },
    "cause": {
        "name": "text",
        "step": "text or null",
        "cause": "text or null",
        "reason": "text or null",
        "executions": "number",
        "oldest": "time or null",
        "sample": "text",
    },
    "acted": {"saga_id": "text", "done": "true or false", "error": "text or null"},
    "purged": {"deleted": "number"},
    "swept": {"deleted": "number"},
    "held": {"name": "text", "version": "text or null", "known": "true or false"},
    "let_go": {"name": "text", "version": "text or null"},
    "result": {
        "saga_id": "text or null",
        "name": "text",
        "status": "text",
        "reason": "text or null",
        "error": "text or null",
        "in_doubt": "list",
        "elapsed": "number",
    },
    "submitted": {"saga_id": "text", "new": "true or false"},
    "worker": {
        "id": "text",
        "host": "text",
        "pid": "number",
        "definitions": "list",
        "in_hand": "number",
        "stopping": "true or false",
        "started": "time",
        "seen": "time",
        "until": "time",
    },
    "version": {
        "name": "text",
        "version": "text",
        "fingerprint": "text",
        "workers": "number",
        "executions": "object",
        "held": "text or null",
    },
    "finding": {"check": "text", "ok": "true or false", "says": "text", "mend": "text or null"},
    "definition": {
        "name": "text",
        "version": "text",
        "fingerprint": "text",
        "steps": "list",
        "asynchronous": "true or false",
        "left": "number or null",
        "certificates": "object or null",
        "keys": "list of key or null",
    },
    "key": {"step": "text", "key": "text", "what": "text", "why": "text"},
    "certificate": {"saga": "text", "step": "text", "task": "text", "digest": "text", "measured": "object"},
    "exploration": {
        "saga": "text",
        "steps": "number",
        "faults": "number",
        "kinds": "list",
        "histories": "list",
        "count": "number",
        "complete": "true or false",
        "has_store": "true or false",
        "sees_world": "true or false",
        "failure": "text or null",
        "seconds": "number",
        "awaits": "number",
        "broken": "history or null",
    },
    "history": {
        "law": "text",
        "how": "text",
        "status": "text",
        "faults": "list of fault",
        "lines": "list of line",
        "test": "text",
    },
    "fault": {"step": "text", "kind": "text", "call": "number"},
    "line": {
        "life": "number",
        "step": "text",
        "what": "text",
        "attempt": "number",
        "came": "text",
        "fault": "text or null",
    },
}
"""By kind of record: its fields, and what each is in JSON. Fields are added; none is taken away or becomes another."""


def time(seconds: float | None) -> str | None:
    """Return a time as ``2026-11-26T16:45:52.123Z``; ``None`` for none, and for what is no time."""
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def record(kind: str, thing: Any) -> dict[str, Any]:
    """Return the record of a thing that has its fields as attributes."""
    return {name: _value(meant, getattr(thing, name)) for name, meant in RECORDS[kind].items()}


def _value(meant: str, value: Any) -> Any:
    if value is None:
        return None
    if meant.startswith("time"):
        return time(value)
    if meant.startswith("list of "):
        return [record(meant.removeprefix("list of "), one) for one in value]
    if meant.removesuffix(" or null") in RECORDS:
        return record(meant.removesuffix(" or null"), value)
    if meant == "list":
        return list(value)
    return dict(value) if meant.startswith("object") else value


def print_record(one: Mapping[str, Any]) -> None:
    """Print a record on a line."""
    click.echo(json.dumps(one, default=text_of))


def print_records(form: str, name: str, records: Iterable[Mapping[str, Any]], **more: Any) -> None:
    """Print records: one a line, or as one document ``{name: [...], ...}``."""
    if form == "jsonl":
        for one in records:
            print_record(one)
    else:
        click.echo(json.dumps({name: list(records), **more}, default=text_of, indent=2))
