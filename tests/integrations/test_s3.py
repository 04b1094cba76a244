"""Large values in a bucket, of moto's server: what is put there, what is not there, what is refused, and what is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from saga import Context, Saga, Status, step
from saga.blobs import Blobs
from saga.durable.codec import Codec
from saga.durable.elsewhere import keys_in
from saga.errors import SagaDefinitionError, StorageError, UnreadableJournalError
from saga.integrations.s3 import S3Blobs
from saga.operations import Operations
from saga.storage import SqliteStore, Store

REPORT = "a page of the report. " * 100_000
KEY = f"A1/{'0' * 32}"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "somebody"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_S3", address),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="reports")
    yield client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="reports"):
        for found in page.get("Contents", ()):
            client.delete_object(Bucket="reports", Key=found["Key"])
    client.delete_bucket(Bucket="reports")
    client.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SqliteStore(tmp_path / "saga.db") as store:
        yield store


def write(context: Context) -> str:
    context["report"] = REPORT
    return REPORT


def send(context: Context) -> int:
    assert context.result_of("write") == REPORT
    return len(context.report)


def unsend(sent: int) -> None:
    pass


def decline(context: Context) -> None:
    raise ValueError("declined")


def monthly(blobs: Blobs) -> Saga:
    saga = Saga("monthly", codec=Codec(blobs=blobs))
    return saga.add_task(step(write)).add_task(step(send, unsend)).add_task(step(decline))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("saga_id", ["R1", "2026/10 ünü ..", "日" * 200], ids=["plain", "odd", "long"])
def test_a_report_is_in_the_bucket(client: Any, store: Store, asynchronous: bool, saga_id: str) -> None:
    saga = monthly(S3Blobs("reports", "saga/"))
    if asynchronous:
        result = asyncio.run(saga.atry_execute(saga_id=saga_id, store=store))
    else:
        result = saga.try_execute(saga_id=saga_id, store=store)
    assert result.status is Status.COMPENSATED
    assert saga.load(saga_id, store=store).results["write"] == REPORT
    (key,) = keys_in(entry.payload for entry in store.journal(saga_id))
    (found,) = client.list_objects_v2(Bucket="reports")["Contents"]
    assert (found["Key"], found["Size"]) == (f"saga/{key}", len(REPORT) + 2)
    operations = Operations(store, "ann", sagas=[saga])
    assert operations.sweep(older_than=3600) == 0
    assert operations.purge(older_than=0) == 1
    assert "Contents" not in client.list_objects_v2(Bucket="reports")


def test_what_is_gone_is_said_to_be(client: Any, store: Store) -> None:
    saga = monthly(S3Blobs("reports", client=client))
    saga.try_execute(saga_id="R1", store=store)
    (key,) = keys_in(entry.payload for entry in store.journal("R1"))
    client.delete_object(Bucket="reports", Key=key)
    with pytest.raises(UnreadableJournalError, match=r"nothing is there in S3Blobs\('reports', ''\)"):
        saga.load("R1", store=store)


def test_what_cannot_be_asked_says_nothing_of_what_is_there(client: Any, store: Store) -> None:
    with pytest.raises(StorageError, match=r"cannot be stored elsewhere, in S3Blobs\('nowhere', ''\): NoSuchBucket: "):
        monthly(S3Blobs("nowhere")).execute(saga_id="R1", store=store)
    saga = monthly(S3Blobs("reports"))
    saga.try_execute(saga_id="R2", store=store)
    with pytest.raises(StorageError, match=r"cannot be read in .*NoSuchBucket: ") as failed:
        monthly(S3Blobs("nowhere")).load("R2", store=store)
    assert not isinstance(failed.value, UnreadableJournalError)


def test_many_are_deleted_and_found(client: Any) -> None:
    blobs, other = S3Blobs("reports", "one/"), S3Blobs("reports", "two/")
    keys = [f"A{number % 7}/{number:032x}" for number in range(1100)]
    for key in keys:
        blobs.put(key, b"")
    other.put(KEY, b"x")
    assert sorted(blobs.older_than(0)) == sorted(keys)
    assert [*blobs.older_than(3600)] == []
    blobs.delete({*keys})
    blobs.delete(keys[:1])
    assert [*blobs.older_than(0)] == []
    assert other.get(KEY) == b"x"


def test_what_is_not_deleted_is_an_error(client: Any) -> None:
    class Refusing:
        put_object = client.put_object

        def delete_objects(self, **asked: Any) -> Any:
            return {"Errors": [{"Key": "k", "Code": "AccessDenied", "Message": "no"}]}

    with pytest.raises(OSError, match="k: AccessDenied: no"):
        S3Blobs("reports", client=Refusing()).delete([KEY])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"bucket": ""}, "S3Blobs: bucket is ''; give the name"),
        ({"bucket": 5}, "S3Blobs: bucket is 5"),
        ({"bucket": "b", "prefix": None}, "S3Blobs: prefix is None; give a text"),
        ({"bucket": "b", "client": "s3"}, "S3Blobs: client is 's3'; give one that boto3"),
    ],
)
def test_what_is_no_bucket_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(SagaDefinitionError, match=why):
        S3Blobs(**given)


_: Callable[..., Blobs] = S3Blobs
