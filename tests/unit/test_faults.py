"""What is left when a process or a server dies in the middle: the old index serves, and only the rest is done again."""

import http.client
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest

from indexes.build import IndexSpec, build_index, load_index
from indexes.cache import EmbeddingCache
from indexes.embedder import embed_chunks
from indexes.fake import HashingEmbedder
from indexes.loaders import bucket as reading
from indexes.loaders.corpus import fetch_sources
from indexes.loaders.kept import KeptFolder
from indexes.loaders.spec import CorpusSpec
from indexes.types import Chunk
from infra.errors import IntegrityError, TryAgainError
from infra.settings import ROOT
from infra.store import ArtifactRef, LocalStore
from tests.s3_server import lead_to, s3_server


def chunks(count: int) -> list[Chunk]:
    """Chunks about pumps."""
    return [
        Chunk(id=f"c{number}", document="a.md", title="T", text=f"Pump {number}.", start=0, end=9, tokens=3)
        for number in range(count)
    ]


def killed(code: str, *arguments: object) -> None:
    """Run code that kills its own process; the names of this module are there."""
    command = [sys.executable, "-c", f"from tests.unit.test_faults import *\nimport os\n{code}", *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


EMBEDDING = """
def stop(done, total):
    if done > 50:
        os.kill(os.getpid(), signal.SIGKILL)
embed_chunks(chunks(100), HashingEmbedder(), EmbeddingCache(Path(sys.argv[1])), stop)
"""


def test_an_embedder_that_was_killed_leaves_only_the_rest_to_do(tmp_path: Path) -> None:
    killed(EMBEDDING, tmp_path / "embeddings")
    embedder = HashingEmbedder()
    resumed, computed, total = embed_chunks(chunks(100), embedder, EmbeddingCache(tmp_path / "embeddings"))
    assert embedder.embedded == computed
    assert (0 < computed < 50, total) == (True, 100)
    assert np.array_equal(resumed, HashingEmbedder().passages([chunk.embedding_text for chunk in chunks(100)]))


def stored_index(store: LocalStore, count: int) -> ArtifactRef:
    """An index over `count` chunks in the store."""
    embedder = HashingEmbedder()
    rows = chunks(count)
    with store.writing("index") as draft:
        vectors = embedder.passages([chunk.embedding_text for chunk in rows])
        build_index(rows, vectors, IndexSpec(kind="flat"), embedder.version, draft.folder)
    return draft.stored()


BUILDING = {
    "written": "with LocalStore(Path(sys.argv[1])).writing('index') as draft:\n    rows = chunks(40)\n"
    "    build_index(rows, HashingEmbedder().passages([row.text for row in rows]), IndexSpec(), 'x', draft.folder)\n"
    "    os.kill(os.getpid(), signal.SIGKILL)",
    "flushed": "import infra.store\ninfra.store._sync_folder = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
    "stored_index(LocalStore(Path(sys.argv[1])), 40)",
}


@pytest.mark.parametrize("moment", BUILDING)
def test_the_old_index_serves_when_its_successor_was_killed_while_it_was(tmp_path: Path, moment: str) -> None:
    store = LocalStore(tmp_path / "store")
    old = stored_index(store, 30)
    killed(BUILDING[moment], store.root)
    found = load_index(store.open(old), HashingEmbedder()).search("Pump 17", frozenset({"public"}), 1)
    assert found[0].chunk.id == "c17"
    assert [path.name for path in (store.root / "index").glob("[!.]*")] == [old.digest]
    new = stored_index(store, 40)
    found = load_index(store.open(new), HashingEmbedder()).search("Pump 37", frozenset({"public"}), 1)
    assert found[0].chunk.id == "c37"


def test_one_flipped_bit_in_any_file_of_an_index_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    ref = stored_index(store, 30)
    files = [path for path in store.open(ref).rglob("*") if path.is_file()]
    assert {"index.json", "chunks.jsonl", "vectors.npy"} <= {path.name for path in files}
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IntegrityError, match="was changed; delete it and run its stage again"):
            store.open(ref)
        path.write_bytes(whole)
    store.open(ref)


class Dying(BaseHTTPRequestHandler):
    """Passes GET on to an S3 server and breaks off in the middle of the answer to what `cut` names."""

    behind: ClassVar[str] = ""
    cut: ClassVar[str] = ""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer in whole or in half."""
        self.asked.append(self.path)
        behind = http.client.HTTPConnection(urlsplit(self.behind).netloc)
        behind.request("GET", self.path, headers=dict(self.headers))
        answer = behind.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        dies = bool(self.cut) and self.cut in self.path
        self.wfile.write(body[: len(body) // 2] if dies else body)
        self.close_connection = True
        behind.close()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Dying]]:
    """The server in front of S3, with a bucket of five objects behind it."""
    with s3_server() as address:
        lead_to(address, monkeypatch)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="library")
        for number in range(5):
            client.put_object(Bucket="library", Key=f"{number}.txt", Body=b"Text %d. " % number * 50)
        Dying.behind, Dying.cut = address, ""
        Dying.asked.clear()
        with ThreadingHTTPServer(("127.0.0.1", 0), Dying) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            yield Dying
            server.shutdown()
        bucket = boto3.resource("s3", endpoint_url=address).Bucket("library")
        bucket.objects.all().delete()
        bucket.delete()


@pytest.mark.parametrize(
    ("cut", "first"), [("continuation-token", []), ("3.txt", ["0.txt", "1.txt", "2.txt", "3.txt"])]
)
def test_a_bucket_that_dies_in_an_answer_is_read_on_and_nothing_is_fetched_twice(
    dying: type[Dying], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str, first: list[str]
) -> None:
    def downloads() -> list[str]:
        return [name for path in dying.asked for name in [urlsplit(path).path.split("/")[-1]] if name.endswith(".txt")]

    monkeypatch.setattr(reading, "PAGE", 2)
    spec = CorpusSpec.model_validate({"documents": "docs", "buckets": [{"url": "s3://library"}]})
    dying.cut = cut
    with pytest.raises(TryAgainError, match="s3://library"):
        fetch_sources(spec, tmp_path / "sources")
    assert downloads() == first
    dying.cut = ""
    found = fetch_sources(spec, tmp_path / "sources")
    assert [kept.id[-5:] for kept in found] == [f"{number}.txt" for number in range(5)]
    assert downloads() == [*first, *[f"{number}.txt" for number in range(max(len(first) - 1, 0), 5)]]
    copies = KeptFolder(tmp_path / "sources")
    assert [copies.path(kept).read_bytes()[:8] for kept in found] == [b"Text %d. " % number for number in range(5)]
    assert list((tmp_path / "sources").glob("*.part")) == []
