"""Objects of an S3 bucket become documents: listed in pages, downloaded once, resumed where a run was ended."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from indexes.loaders import bucket as reading
from indexes.loaders.corpus import fetch_sources, load_corpus
from indexes.loaders.kept import KeptFolder
from indexes.loaders.spec import CorpusSpec, LoadedCorpus
from infra.errors import PolicyError, SetupError, TryAgainError
from infra.s3 import s3_client
from infra.settings import Policy
from tasks.corpus import corpus_content
from tests.environment import only
from tests.s3_server import lead_to, s3_server
from tests.unit.documents import xlsx_bytes

OBJECTS = {
    "docs/a.md": b"# A\n\nFirst.",
    "docs/deep/b.txt": b"Second.",
    "docs/prices.xlsx": xlsx_bytes({"p": [["zone"], ["Dunmere"]]}),
    "docs/ü #1.md": b"Third.",
    "docs/.hidden/c.md": b"Hidden.",
    "docs/folder/": b"",
    "docs/macro.xlsm": b"x",
    "docs/zero.md": b"",
    "docs/big.txt": b"x" * 50_001,
    "docs-old/d.md": b"Old.",
}


class Counting:
    """boto3's client that notes downloads; `before` is called with the key of each one."""

    def __init__(self) -> None:
        self.client: Any = s3_client()
        self.downloads: list[str] = []
        self.before: Any = lambda key: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get_object(self, **values: Any) -> Any:
        self.before(values["Key"])
        self.downloads.append(values["Key"])
        return self.client.get_object(**values)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as running:
        yield running


@pytest.fixture
def s3(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    lead_to(address, monkeypatch)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    counting = Counting()
    counting.create_bucket(Bucket="library")
    for key, body in OBJECTS.items():
        counting.put_object(Bucket="library", Key=key, Body=body)
    monkeypatch.setattr(reading, "s3_client", lambda: counting)
    resource = boto3.resource("s3").Bucket("library")
    yield counting
    resource.objects.all().delete()
    resource.delete()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    return tmp_path


def spec(**source: object) -> CorpusSpec:
    buckets = [{"url": "s3://library/docs", **source}]
    return CorpusSpec.model_validate({"documents": "docs", "buckets": buckets, "max_bytes": 50_000})


def loaded(chosen: CorpusSpec, root: Path) -> LoadedCorpus:
    fetch_sources(chosen, root / "sources")
    return load_corpus(chosen, root, KeptFolder(root / "sources"))


def fetched(chosen: CorpusSpec, root: Path) -> dict[str, bytes]:
    """Address → bytes of every usable copy."""
    copies = KeptFolder(root / "sources")
    found = fetch_sources(chosen, copies.folder)
    return {kept.id: copies.path(kept).read_bytes() for kept in found if not kept.reason}


READ = ["docs/a.md", "docs/deep/b.txt", "docs/prices.xlsx", "docs/ü #1.md"]


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_every_object_below_the_folder_is_used_or_quarantined(
    s3: Counting, root: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(reading, "PAGE", page)
    found = loaded(spec(), root)
    assert [(item.id, item.media, item.title, item.text) for item in found.documents] == [
        ("s3://library/docs/a.md", "markdown", "A", "First."),
        ("s3://library/docs/deep/b.txt", "text", "B", "Second."),
        ("s3://library/docs/prices.xlsx", "xlsx", "Prices", "zone: Dunmere"),
        ("s3://library/docs/ü #1.md", "markdown", "Ü #1", "Third."),
    ]
    reasons = {item.id.removeprefix("s3://library/docs/"): item.reason for item in found.quarantined}
    assert reasons.keys() == {"macro.xlsm", "zero.md", "big.txt"}
    assert "save it as .xlsx" in reasons["macro.xlsm"]
    assert "zero bytes" in reasons["zero.md"]
    assert "50001 bytes are more than the limit" in reasons["big.txt"]
    assert sorted(s3.downloads) == READ, "what cannot be used is not downloaded"


def test_only_what_changed_is_downloaded_again(s3: Counting, root: Path) -> None:
    first = fetched(spec(), root)
    assert first == {f"s3://library/{key}": OBJECTS[key] for key in READ}
    s3.downloads.clear()
    assert fetched(spec(), root) == first
    assert s3.downloads == []
    s3.put_object(Bucket="library", Key="docs/a.md", Body=b"Changed.")
    s3.delete_object(Bucket="library", Key="docs/deep/b.txt")
    changed = fetched(spec(), root)
    assert s3.downloads == ["docs/a.md"]
    assert changed["s3://library/docs/a.md"] == b"Changed."
    assert first.keys() - changed.keys() == {"s3://library/docs/deep/b.txt"}


def test_a_damaged_copy_is_downloaded_again(s3: Counting, root: Path) -> None:
    first = fetched(spec(), root)
    s3.downloads.clear()
    next((root / "sources").glob("*.txt")).write_bytes(b"Secand.")
    assert fetched(spec(), root) == first
    assert s3.downloads == ["docs/deep/b.txt"]


def test_an_interrupted_run_goes_on_where_it_was(s3: Counting, root: Path) -> None:
    def die(key: str) -> None:
        if key == "docs/prices.xlsx":
            raise KeyboardInterrupt

    s3.before = die
    with pytest.raises(KeyboardInterrupt):
        fetched(spec(), root)
    assert len(list((root / "sources").glob("*.part"))) == 1
    s3.before = lambda key: None
    assert len(fetched(spec(), root)) == 4
    assert sorted(s3.downloads) == READ, "each one once"
    assert list((root / "sources").glob("*.part")) == []


def test_an_outage_in_the_middle_is_to_be_tried_again(s3: Counting, root: Path) -> None:
    gone = boto3.client("s3", endpoint_url="http://127.0.0.1:9")
    alive = s3.client

    def cut(key: str) -> None:
        s3.client = gone if key == "docs/deep/b.txt" else alive

    s3.before = cut
    with pytest.raises(TryAgainError, match=r"s3://library/docs/deep/b\.txt"):
        fetched(spec(), root)
    s3.client, s3.before = alive, lambda key: None
    s3.downloads.clear()
    assert len(fetched(spec(), root)) == 4
    assert "docs/a.md" not in s3.downloads


def test_an_object_that_changes_under_the_reader_is_named_and_read_next_time(s3: Counting, root: Path) -> None:
    def replace(key: str) -> None:
        if key == "docs/a.md":
            s3.put_object(Bucket="library", Key=key, Body=b"# A\n\nNewer.")
        if key == "docs/deep/b.txt":
            s3.delete_object(Bucket="library", Key=key)

    s3.before = replace
    found = loaded(spec(include=["*.md", "*.txt"]), root)
    reasons = {item.id: item.reason for item in found.quarantined}
    for key in ("docs/a.md", "docs/deep/b.txt"):
        assert reasons[f"s3://library/{key}"] == "changed or deleted while the bucket was read: run again"
    s3.before = lambda key: None
    assert sorted(fetched(spec(include=["*.md"]), root).values()) == [b"# A\n\nNewer.", b"Third."]


def test_labels_of_the_source_hold_for_its_objects(s3: Counting, root: Path) -> None:
    s3.put_object(Bucket="library", Key="docs/a.md", Body=b"---\naccess: public\n---\nFirst.")
    (root / "docs" / "manifest.yaml").write_text(
        "documents:\n  s3://library/docs/deep/b.txt: {access: board}\n  s3://library/docs/none.md: {}\n", "utf-8"
    )
    found = loaded(spec(access=["staff"], include=["*a.md", "deep/*"]), root)
    assert {item.id[13:]: item.access for item in found.documents} == {
        "docs/a.md": ("staff",),
        "docs/deep/b.txt": ("board",),
    }
    assert [item.id for item in found.quarantined] == ["s3://library/docs/none.md"]
    assert {item.access for item in loaded(spec(include=["*a.md"]), root).documents} == {("public",)}


def test_the_key_of_the_corpus_follows_the_etags(s3: Counting, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with only(monkeypatch, HOME=root / "state"):
        first = corpus_content(spec(), root)
        assert corpus_content(spec(), root) == first
        s3.put_object(Bucket="library", Key="docs/a.md", Body=b"# A\n\nChanged.")
        changed = corpus_content(spec(), root)
        s3.delete_object(Bucket="library", Key="docs/deep/b.txt")
        deleted = corpus_content(spec(), root)
        s3.put_object(Bucket="library", Key="docs/a.md", Body=OBJECTS["docs/a.md"])
        s3.put_object(Bucket="library", Key="docs/deep/b.txt", Body=OBJECTS["docs/deep/b.txt"])
        assert corpus_content(spec(), root) == first
    assert len({first, changed, deleted}) == 3


def test_a_bucket_that_is_not_there_stops_the_run(s3: Counting, root: Path) -> None:
    with pytest.raises(SetupError, match="s3://nowhere"):
        loaded(spec(url="s3://nowhere/docs"), root)


def test_credentials_come_from_the_environment_only(s3: Counting, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(root / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers credentials
    monkeypatch.setattr(reading, "s3_client", s3_client)
    with pytest.raises(SetupError, match=r"check the AWS_\* variables"):
        loaded(spec(), root)


def test_a_wrong_address_of_a_bucket_is_a_policy_error(tmp_path: Path) -> None:
    path = tmp_path / "sluice.yaml"
    path.write_text("corpus: {documents: docs, buckets: [{url: 'https://bucket/docs'}]}", "utf-8")
    with pytest.raises(PolicyError, match=r"corpus\.buckets\.0\.url"):
        Policy(path).section("corpus", CorpusSpec)
