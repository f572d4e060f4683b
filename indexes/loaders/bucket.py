"""Objects of an S3 bucket as documents: listed page by page, downloaded only when their etag changed.

Every finished download has its record at once, so a run that was ended in between goes on with the next object. An
outage or missing rights on the bucket raise; an object that alone cannot be had is recorded with the reason.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from indexes.loaders.formats import check_size, check_suffix
from indexes.loaders.kept import Kept, KeptFolder
from indexes.loaders.spec import BucketPrefix
from infra.errors import InputError, TryAgainError
from infra.s3 import s3_client, s3_errors

PAGE = 1000
"""Keys asked for in one listing request (S3's own limit)."""
_PIECE = 1 << 20
_GONE = ("404", "NoSuchKey", "412", "PreconditionFailed")
_REFUSED = ("403", "AccessDenied", "InvalidObjectState")


class Listed(NamedTuple):
    """One object as the listing shows it; `size` in bytes."""

    key: str
    etag: str
    size: int


def fetch_objects(sources: Sequence[BucketPrefix], max_bytes: int, folder: KeptFolder) -> list[Kept]:
    """Bring the kept copies of all objects below `sources` up to date; an object below two of them counts once.

    Raises: SetupError for a bucket, rights or credentials that are wrong, TryAgainError when S3 does not answer.
    """
    if not sources:
        return []
    client = s3_client()
    found: dict[str, Kept] = {}
    for source in sources:
        for item in _listed(client, source):
            identity = f"s3://{source.bucket}/{item.key}"
            if identity not in found:
                found[identity] = _object(client, source, item, max_bytes, folder)
    return list(found.values())


def _listed(client: Any, source: BucketPrefix) -> Iterator[Listed]:
    """Objects that the source's patterns name, without folder marks and hidden ones."""
    with s3_errors(source.url):
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=source.bucket, Prefix=source.prefix, PaginationConfig={"PageSize": PAGE}
        )
        entries = [entry for page in pages for entry in page.get("Contents", [])]
    for entry in entries:
        name = entry["Key"].removeprefix(source.prefix)
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not hidden and not name.endswith("/") and any(fnmatchcase(name, pattern) for pattern in source.include):
            yield Listed(entry["Key"], entry["ETag"], entry["Size"])


def _object(client: Any, source: BucketPrefix, item: Listed, max_bytes: int, folder: KeptFolder) -> Kept:
    identity = f"s3://{source.bucket}/{item.key}"
    suffix = PurePosixPath(item.key).suffix.lower()
    fresh = Kept(id=identity, suffix=suffix, etag=item.etag, access=source.access)
    try:
        check_suffix(suffix)
        check_size(item.size, max_bytes)
        kept = folder.get(identity)
        if kept is not None and kept.etag == item.etag:
            return folder.note(kept.model_copy(update={"reason": "", "access": source.access}))
        return folder.put(fresh, lambda stream: _download(client, source.bucket, item, stream))
    except InputError as error:
        return folder.note(fresh.model_copy(update={"reason": str(error)}))


def _download(client: Any, bucket: str, item: Listed, stream: BinaryIO) -> None:
    """Write the version of an object that was listed. Raises InputError when there is no such version any more."""
    from botocore.exceptions import ClientError

    place = f"s3://{bucket}/{item.key}"
    with s3_errors(place):
        try:
            body = client.get_object(Bucket=bucket, Key=item.key, IfMatch=item.etag)["Body"]
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _GONE:
                raise InputError("changed or deleted while the bucket was read: run again") from error
            if code in _REFUSED:
                raise InputError(f"may not be read ({code}): give the credentials the right to it") from error
            raise
        written = sum(stream.write(piece) for piece in body.iter_chunks(_PIECE))
    if written != item.size:
        raise TryAgainError(f"{place}: {written} of {item.size} bytes came")
