"""Large values in a bucket of Amazon S3, or of another store that speaks its protocol. Which values are large, others say."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from saga.errors import SagaDefinitionError

try:
    import boto3  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"buckets need {error.name}: pip install 'saga-tasks[s3]'", name=error.name) from error

__all__ = ["S3Blobs"]

_AT_ONCE: Final = 1000
"""Objects that one request deletes at most."""


class S3Blobs:
    """Keeps values in a bucket: ``Codec(blobs=S3Blobs("my-bucket", "saga/"))``.

    An object's key is ``prefix``, the execution's id, a ``/`` and 32 hexadecimal digits. Needed are the rights
    ``s3:PutObject``, ``s3:GetObject`` and, without which S3 does not tell what is not there from what may not be read,
    ``s3:ListBucket``; for :meth:`~saga.operations.Operations.purge` and :meth:`~saga.operations.Operations.sweep`
    ``s3:DeleteObject``, too. Where objects of the bucket expire, it must be after the executions are purged.

    :param bucket: its name. It is not made.
    :param prefix: what all keys begin with: another one for each database whose executions share the bucket.
    :param client: made by ``boto3.client("s3", ...)``, where region, address, retries or timeouts are to be others than the
        environment says. It is used by many threads.
    :raises SagaDefinitionError: ``bucket`` or ``prefix`` is no text, or ``client`` is none.
    """

    def __init__(self, bucket: str, prefix: str = "", *, client: Any = None) -> None:
        if not isinstance(bucket, str) or not bucket:
            raise SagaDefinitionError(f"S3Blobs: bucket is {bucket!r}; give the name of a bucket")
        if not isinstance(prefix, str):
            raise SagaDefinitionError(f"S3Blobs: prefix is {prefix!r}; give a text, such as 'saga/'")
        if client is not None and not callable(getattr(client, "put_object", None)):
            raise SagaDefinitionError(f"S3Blobs: client is {client!r}; give one that boto3.client('s3') makes")
        self._bucket = bucket
        self._prefix = prefix
        self._client = boto3.client("s3") if client is None else client

    def __repr__(self) -> str:
        return f"S3Blobs({self._bucket!r}, {self._prefix!r})"

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes: see :meth:`saga.blobs.Blobs.put`."""
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)

    def get(self, key: str) -> bytes:
        """Return the bytes that were put: see :meth:`saga.blobs.Blobs.get`."""
        try:
            found: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            raise KeyError(key) from None
        return found

    def delete(self, keys: Collection[str]) -> None:
        """Delete objects: see :meth:`saga.blobs.Blobs.delete`.

        :raises OSError: some could not be.
        """
        left = iter(keys)
        while some := [{"Key": self._prefix + key} for key in islice(left, _AT_ONCE)]:
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": some, "Quiet": True})
            for failed in answer.get("Errors", ()):
                raise OSError(f"{failed.get('Key')}: {failed.get('Code')}: {failed.get('Message')}")

    def older_than(self, seconds: float) -> Iterator[str]:
        """Yield the keys of old objects, by this computer's clock and the bucket's: see :meth:`saga.blobs.Blobs.older_than`."""
        before = datetime.now(UTC) - timedelta(seconds=seconds)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for found in page.get("Contents", ()):
                if found["LastModified"] <= before:
                    yield found["Key"].removeprefix(self._prefix)
