"""Artifact store: folders kept once under the digest of their content, written atomically, verified when read."""

import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar, overload

from pydantic import BaseModel, ConfigDict

from infra.errors import InputError, IntegrityError

MANIFEST = "manifest.json"

Model = TypeVar("Model", bound=BaseModel)


class ArtifactRef(BaseModel):
    """Names one immutable artifact: `kind`, sha256 `digest` of its canonical manifest, and `uri` where it lies."""

    model_config = ConfigDict(frozen=True)

    kind: str
    digest: str
    uri: str


class ArtifactStore(Protocol):
    """Port of the store. Adapters: LocalStore here; S3 in `infra/s3.py`."""

    def put(self, kind: str, folder: Path) -> ArtifactRef:
        """Copy `folder` in and return its reference; the same content twice is kept once."""
        ...

    def open(self, ref: ArtifactRef) -> Path:
        """Verified read-only local folder. Raises IntegrityError if bytes are missing or changed."""
        ...

    def find(self, kind: str, digest: str) -> ArtifactRef | None:
        """The reference of a stored digest, or None."""
        ...

    def digests(self, kind: str, prefix: str) -> list[str]:
        """Digests of the stored artifacts of a kind that begin with `prefix`, sorted. Raises InputError for none."""
        ...

    def writing(self, kind: str) -> AbstractContextManager["Draft"]:
        """A temporary folder to fill; on a clean exit it is stored and `draft.ref` is set, otherwise it vanishes."""
        ...


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def text_digest(text: str) -> str:
    """sha256 of UTF-8 text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def value_digest(value: object) -> str:
    """sha256 of the canonical JSON of `value`."""
    return text_digest(canonical_json(value))


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def code_version(*parts: str, root: Path | None = None) -> str:
    """Digest of the source of files or packages (paths from the project root): the code part of a stage's key."""
    base = root or Path(__file__).resolve().parent.parent
    files: list[Path] = []
    for part in parts:
        path = base / part
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return value_digest([(str(file.relative_to(base)), file_digest(file)) for file in files])


def folder_manifest(kind: str, folder: Path) -> dict[str, object]:
    """Canonical manifest: kind and (path, sha256, size) of every file below `folder`, sorted by path."""
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder, cannot be stored as {kind}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [
        {"path": _written(path.relative_to(folder)), "sha256": file_digest(path), "size": path.stat().st_size}
        for path in files
    ]
    return {"kind": kind, "files": entries}


def _written(path: Path) -> str:
    """A relative path as text; bytes of it that are no UTF-8 are written as `\\x..`, because JSON cannot hold them."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def write_atomic(path: Path, text: str | Iterable[str]) -> None:
    """Write a text, or its parts one after another, so that a reader sees the old file or the whole new one.

    That holds after a power cut too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines([text] if isinstance(text, str) else text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_lines(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write models as JSON lines with sorted keys, atomically; rows that are made on the way are not gathered."""
    write_atomic(path, map(json_line, rows))


def json_line(row: BaseModel) -> str:
    """A model as a JSON line with sorted keys."""
    return canonical_json(row.model_dump(mode="json")) + "\n"


def read_lines(path: Path, model: type[Model]) -> Iterator[Model]:
    """Read JSON lines. Raises InputError naming file and line of the first bad row."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield _parsed(line, model, path, number)


def _parsed(line: bytes, model: type[Model], path: Path, number: int) -> Model:
    try:
        return model.model_validate_json(line)
    except ValueError as error:
        raise InputError(f"{path}:{number}: not a valid {model.__name__}: {error}") from error


class StoredLines(Sequence[Model]):
    """The rows of a file of write_lines, each read when it is asked for: 8 bytes a row are held.

    A bad row raises InputError naming file and line.
    """

    def __init__(self, path: Path, model: type[Model]) -> None:
        self.path = path
        self.model = model
        self._starts = array("q")
        start = 0
        for line in self.lines():
            self._starts.append(start)
            start += len(line)

    def lines(self) -> Iterator[bytes]:
        """The rows as they stand in the file."""
        with self.path.open("rb") as stream:
            yield from stream

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Model]:
        return read_lines(self.path, self.model)

    @overload
    def __getitem__(self, index: int) -> Model: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Model]: ...

    def __getitem__(self, index: int | slice) -> Model | Sequence[Model]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        with self.path.open("rb") as stream:
            stream.seek(self._starts[places])
            return _parsed(stream.readline(), self.model, self.path, places + 1)


def _sync_folder(folder: Path) -> None:
    """Flush a folder tree to disk before its rename is relied on."""
    for path in [folder, *folder.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class LocalStore:
    """Store in a local folder: `<root>/<kind>/<digest>/{manifest.json,files/…}`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _place(self, kind: str, digest: str) -> Path:
        if not kind.replace("-", "").isalnum() or not digest.isalnum():
            raise InputError(f"{kind}/{digest}: not an artifact name")
        return self.root / kind / digest

    def put(self, kind: str, folder: Path) -> ArtifactRef:
        """See ArtifactStore. Atomic: built under a temporary name, synced, then renamed."""
        manifest = folder_manifest(kind, folder)
        digest = value_digest(manifest)
        place = self._place(kind, digest)
        ref = ArtifactRef(kind=kind, digest=digest, uri=str(place))
        if place.exists():
            try:
                self.open(ref)
                return ref
            except IntegrityError:
                shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=".new-"))
        try:
            shutil.copytree(folder, temporary / "files")
            (temporary / MANIFEST).write_text(canonical_json(manifest), "utf-8")
            _sync_folder(temporary)
            try:
                temporary.rename(place)
            except OSError:
                if not place.exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return ref

    def open(self, ref: ArtifactRef) -> Path:
        """See ArtifactStore."""
        place = self._place(ref.kind, ref.digest)
        files = place / "files"
        if not files.is_dir():
            raise IntegrityError(f"{ref.kind} {ref.digest[:12]}: not in the store at {self.root}; run its stage again")
        if value_digest(folder_manifest(ref.kind, files)) != ref.digest:
            raise IntegrityError(
                f"{ref.kind} {ref.digest[:12]}: {files} was changed; delete it and run its stage again"
            )
        return files

    def find(self, kind: str, digest: str) -> ArtifactRef | None:
        """See ArtifactStore."""
        place = self._place(kind, digest)
        return ArtifactRef(kind=kind, digest=digest, uri=str(place)) if place.is_dir() else None

    def digests(self, kind: str, prefix: str) -> list[str]:
        """See ArtifactStore."""
        folder = self._place(kind, prefix).parent
        return sorted(path.parent.name for path in folder.glob(f"{prefix}*/{MANIFEST}"))

    @contextmanager
    def writing(self, kind: str) -> Iterator["Draft"]:
        """A temporary folder to fill; on a clean exit it is stored and `draft.ref` is set, otherwise it vanishes."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".draft-") as name:
            draft = Draft(Path(name))
            yield draft
            draft.ref = self.put(kind, draft.folder)


class Draft:
    """A folder being filled before it is stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ref: ArtifactRef | None = None

    def stored(self) -> ArtifactRef:
        """The reference, after the `writing` block has ended."""
        assert self.ref is not None, "asked for the reference inside the writing block"
        return self.ref
