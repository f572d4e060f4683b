"""Artifact store in an S3 bucket with a verified local cache, and the choice of a store by address."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from infra.errors import InputError, IntegrityError, SetupError, TryAgainError
from infra.store import (
    MANIFEST,
    ArtifactRef,
    ArtifactStore,
    Draft,
    LocalStore,
    canonical_json,
    folder_manifest,
    text_digest,
    value_digest,
)


def open_store(url: str, home: Path) -> ArtifactStore:
    """The store at `url`: `s3://bucket/prefix` (cached under `home`), otherwise a local folder."""
    if url.startswith("s3://"):
        return S3Store(url, home / "cache")
    if "://" in url:
        raise InputError(f"SLUICE_STORE={url}: a folder or s3://bucket/prefix is expected")
    return LocalStore(Path(url))


def s3_client() -> Any:
    """boto3's client of S3: endpoint, region and credentials are its own (AWS_* variables, profiles, roles)."""
    import boto3

    return boto3.client("s3")


@contextmanager
def s3_errors(place: str) -> Iterator[None]:
    """boto3's errors as ours: the set-up (bucket, rights, credentials), or a network to retry."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, IncompleteReadError

    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in ("500", "503", "SlowDown", "InternalError", "RequestTimeout"):
            raise TryAgainError(f"{place}: {error}") from error
        raise SetupError(f"{place}: {error}; check bucket, rights and AWS_* variables") from error
    except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
        raise TryAgainError(f"{place}: {error}") from error
    except BotoCoreError as error:
        raise SetupError(f"{place}: {error}; check the AWS_* variables") from error


class S3Store:
    """Store in a bucket: `<prefix>/<kind>/<digest>/files/…`, and last of all `manifest.json`, which makes it visible.

    Address and credentials are boto3's own (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, profiles, roles). What is opened is
    kept in a local cache and verified there each time.
    """

    def __init__(self, url: str, cache: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise InputError(f"{url}: not an address of the form s3://bucket/prefix")
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/")
        self.cache = LocalStore(cache)
        self._client: Any = None

    def put(self, kind: str, folder: Path) -> ArtifactRef:
        """See ArtifactStore. A killed upload leaves files without a manifest: invisible; the next put completes it."""
        ref = self.cache.put(kind, folder)
        stored = ArtifactRef(kind=kind, digest=ref.digest, uri=self._uri(kind, ref.digest))
        if self._intact(stored):
            return stored
        files = self.cache.open(ref)
        manifest: dict[str, Any] = folder_manifest(kind, files)
        with self._translated(stored):
            for entry in manifest["files"]:
                extra = {"Metadata": {"sha256": entry["sha256"]}, "ChecksumAlgorithm": "SHA256"}
                key = self._key(kind, ref.digest, "files", entry["path"])
                self._s3().upload_file(str(files / entry["path"]), self.bucket, key, ExtraArgs=extra)
            body = canonical_json(manifest).encode()
            self._s3().put_object(Bucket=self.bucket, Key=self._key(kind, ref.digest, MANIFEST), Body=body)
        return stored

    def open(self, ref: ArtifactRef) -> Path:
        """See ArtifactStore. Downloads once; a damaged cached copy is fetched again."""
        if self.cache.find(ref.kind, ref.digest) is not None:
            try:
                return self.cache.open(ref)
            except IntegrityError:
                shutil.rmtree(self.cache.root / ref.kind / ref.digest)
        manifest = self._manifest(ref)
        if manifest is None:
            raise IntegrityError(f"{ref.kind} {ref.digest[:12]}: not in {self._uri('', '')}; run its stage again")
        if text_digest(canonical_json(manifest)) != ref.digest:
            raise IntegrityError(f"{self._uri(ref.kind, ref.digest)}: its manifest was changed; delete it there")
        return self._fetch(ref, manifest)

    def find(self, kind: str, digest: str) -> ArtifactRef | None:
        """See ArtifactStore."""
        ref = ArtifactRef(kind=kind, digest=digest, uri=self._uri(kind, digest))
        return ref if self._manifest(ref) is not None else None

    def digests(self, kind: str, prefix: str) -> list[str]:
        """See ArtifactStore. Asks the bucket for every artifact that begins so whether its manifest is there."""
        asked = ArtifactRef(kind=kind, digest=prefix, uri=self._uri(kind, prefix))
        with self._translated(asked):
            pages = self._s3().get_paginator("list_objects_v2")
            found = pages.paginate(Bucket=self.bucket, Prefix=self._key(kind, prefix), Delimiter="/")
            places = [entry["Prefix"] for page in found for entry in page.get("CommonPrefixes", [])]
        names = [place.rstrip("/").rpartition("/")[2] for place in places]
        return sorted(name for name in names if self.find(kind, name) is not None)

    @contextmanager
    def writing(self, kind: str) -> Iterator[Draft]:
        """See LocalStore.writing."""
        with tempfile.TemporaryDirectory(prefix="sluice-draft-") as name:
            draft = Draft(Path(name))
            yield draft
            draft.ref = self.put(kind, draft.folder)

    def _fetch(self, ref: ArtifactRef, manifest: dict[str, Any]) -> Path:
        """Download to a temporary folder and keep it in the cache when its digest is right."""
        with tempfile.TemporaryDirectory(prefix="sluice-s3-") as name:
            for entry in manifest["files"]:
                target = _confined(Path(name), str(entry["path"]))
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._translated(ref):
                    key = self._key(ref.kind, ref.digest, "files", entry["path"])
                    self._s3().download_file(self.bucket, key, str(target))
            if value_digest(folder_manifest(ref.kind, Path(name))) != ref.digest:
                raise IntegrityError(
                    f"{self._uri(ref.kind, ref.digest)}: bytes were changed; delete it there and rebuild"
                )
            return self.cache.open(self.cache.put(ref.kind, Path(name)))

    def _intact(self, ref: ArtifactRef) -> bool:
        """Whether manifest and every file are there with the size and the recorded sha256 of the manifest."""
        from botocore.exceptions import ClientError

        manifest = self._manifest(ref)
        if manifest is None or text_digest(canonical_json(manifest)) != ref.digest:
            return False
        for entry in manifest["files"]:
            try:
                head = self._s3().head_object(
                    Bucket=self.bucket, Key=self._key(ref.kind, ref.digest, "files", entry["path"])
                )
            except ClientError:
                return False
            if head["ContentLength"] != entry["size"] or head["Metadata"].get("sha256") != entry["sha256"]:
                return False
        return True

    def _manifest(self, ref: ArtifactRef) -> dict[str, Any] | None:
        """The manifest as stored, or None when there is none."""
        from botocore.exceptions import ClientError

        key = self._key(ref.kind, ref.digest, MANIFEST)
        with self._translated(ref):
            try:
                body = self._s3().get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    return None
                raise
        try:
            loaded: dict[str, Any] = json.loads(body)
        except ValueError as error:
            raise IntegrityError(
                f"{self._uri(ref.kind, ref.digest)}: its manifest is not JSON; delete it there"
            ) from error
        return loaded

    @contextmanager
    def _translated(self, ref: ArtifactRef) -> Iterator[None]:
        """See s3_errors; a missing file is an artifact that is not whole."""
        from botocore.exceptions import ClientError

        with s3_errors(f"s3://{self.bucket}"):
            try:
                yield
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                    raise
                raise IntegrityError(
                    f"{ref.uri}: a file is missing there; delete it and run its stage again"
                ) from error

    def _s3(self) -> Any:
        if self._client is None:
            self._client = s3_client()
        return self._client

    def _key(self, kind: str, digest: str, *rest: str) -> str:
        if not kind.replace("-", "").isalnum() or not digest.isalnum():
            raise InputError(f"{kind}/{digest}: not an artifact name")
        return "/".join(part for part in (self.prefix, kind, digest, *rest) if part)

    def _uri(self, kind: str, digest: str) -> str:
        return "s3://" + "/".join(part for part in (self.bucket, self.prefix, kind, digest) if part)


def _confined(folder: Path, relative: str) -> Path:
    """`folder / relative`. Raises IntegrityError for a path that leaves the folder."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts:
        raise IntegrityError(f"manifest names {relative!r}, which is outside the artifact")
    return folder / path
