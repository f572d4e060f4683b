"""Documents of a corpus → the file of their chunks: a document that was cut before takes its chunks from a cache."""

import hashlib
import json
from array import array
from collections.abc import Iterator
from pathlib import Path

from indexes.cache import ContentCache
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import chunk_document
from indexes.chunkers.tokens import token_counter
from indexes.types import Chunk, Document, Embedder
from infra.settings import Spec
from infra.store import StoredLines, code_version, file_digest, json_line, value_digest, write_atomic

_CHUNKS = "chunks.jsonl"
_CODE = ("indexes/chunkers", "indexes/chunking.py", "indexes/types.py")


class Cut(Spec):
    """What was cut."""

    chunks: int
    computed: int
    """Chunks that had to be cut; the others were kept."""
    tokens: int
    """Of all chunks."""
    tokens_max: int


def write_chunks(
    documents: StoredLines[Document],
    spec: ChunkSpec,
    tokenizer: Path,
    folder: Path,
    cache: ContentCache,
    embedder: Embedder | None = None,
) -> Cut:
    """Write the chunks of every document in turn into `folder`, counted by the tokenizer.json of folder `tokenizer`.

    The chunks of a document are kept under its content, the spec, and the versions of tokenizer, code and embedder.

    Raises: InputError for a document without text; SetupError where tokenizer or embedder is missing.
    """
    count = token_counter(tokenizer)
    parts = [spec.model_dump(), file_digest(tokenizer / "tokenizer.json"), embedder.version if embedder else ""]
    about = value_digest([*parts, code_version(*_CODE)])
    tokens, computed = array("q"), 0

    def key(line: bytes) -> str:
        return f"{about}/{hashlib.sha256(line).hexdigest()}"

    def cut(line: bytes) -> bytes:
        chunks = chunk_document(Document.model_validate_json(line), spec, count, embedder)
        return "".join([json.dumps([chunk.tokens for chunk in chunks]), "\n", *map(json_line, chunks)]).encode()

    def written() -> Iterator[str]:
        nonlocal computed
        for _, kept, is_new in cache.once(documents.lines(), key, cut):
            counts, rows = kept.split(b"\n", 1)
            sizes = json.loads(counts)
            tokens.extend(sizes)
            computed += len(sizes) * is_new
            yield rows.decode()

    write_atomic(folder / _CHUNKS, written())
    return Cut(chunks=len(tokens), computed=computed, tokens=sum(tokens), tokens_max=max(tokens))


def chunks_in(folder: Path) -> StoredLines[Chunk]:
    """The chunks of a chunk set, in the order of the documents."""
    return StoredLines(folder / _CHUNKS, Chunk)
