"""One contract for every artifact store: what goes in comes out, once, whole and verified."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import InputError, IntegrityError, SetupError
from infra.s3 import S3Store, open_store
from infra.store import ArtifactRef, ArtifactStore, LocalStore
from tests.s3_server import lead_to, s3_server

Corrupt = Callable[[ArtifactRef, str, bytes], None]
"""(reference, file, new bytes): change a stored file behind the store's back."""


class Bench:
    """A store under test: `fresh` opens it as another machine would, without anything cached."""

    def __init__(self, fresh: Callable[[], ArtifactStore], corrupt: Corrupt, stored: Callable[[], list[str]]) -> None:
        self.fresh = fresh
        self.corrupt = corrupt
        self.stored = stored


def local_bench(root: Path) -> Bench:
    def corrupt(ref: ArtifactRef, name: str, body: bytes) -> None:
        (root / ref.kind / ref.digest / "files" / name).write_bytes(body)

    def stored() -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    return Bench(lambda: open_store(str(root), root), corrupt, stored)


@pytest.fixture(scope="module")
def s3_address() -> Iterator[str]:
    with s3_server() as running:
        yield running


def s3_bench(tmp_path: Path, bucket: str) -> Bench:
    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    caches = iter(tmp_path / f"cache{number}" for number in range(100))

    def corrupt(ref: ArtifactRef, name: str, body: bytes) -> None:
        client.put_object(Bucket=bucket, Key=f"some/prefix/{ref.kind}/{ref.digest}/files/{name}", Body=body)

    def stored() -> list[str]:
        return sorted(entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", []))

    return Bench(lambda: open_store(f"s3://{bucket}/some/prefix", next(caches)), corrupt, stored)


@pytest.fixture(params=["local", "s3"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    if request.param == "local":
        return local_bench(tmp_path / "store")
    lead_to(request.getfixturevalue("s3_address"), monkeypatch)
    return s3_bench(tmp_path, f"bucket-{abs(hash(request.node.nodeid))}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "content"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.txt").write_text("reservoir")
    (root / "deep" / "er" / "b.bin").write_bytes(bytes(range(256)) * 40)
    (root / "empty").write_bytes(b"")
    return root


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_goes_in_comes_out(bench: Bench, folder: Path) -> None:
    ref = bench.fresh().put("corpus", folder)
    other = bench.fresh()
    assert other.find("corpus", ref.digest) == ref
    assert content(other.open(ref)) == content(folder)


def test_same_content_is_kept_once(bench: Bench, folder: Path) -> None:
    first = bench.fresh().put("corpus", folder)
    before = bench.stored()
    assert bench.fresh().put("corpus", folder) == first
    assert bench.stored() == before
    (folder / "a.txt").write_text("reservoirs")
    assert bench.fresh().put("corpus", folder).digest != first.digest


def test_kind_is_part_of_the_identity(bench: Bench, folder: Path) -> None:
    store = bench.fresh()
    assert store.put("corpus", folder).digest != store.put("dataset", folder).digest


def test_one_flipped_byte_is_refused(bench: Bench, folder: Path) -> None:
    ref = bench.fresh().put("corpus", folder)
    body = bytearray((folder / "deep" / "er" / "b.bin").read_bytes())
    body[1234] ^= 1
    bench.corrupt(ref, "deep/er/b.bin", bytes(body))
    with pytest.raises(IntegrityError):
        bench.fresh().open(ref)


def test_an_added_file_is_refused_or_left_out(bench: Bench, folder: Path) -> None:
    ref = bench.fresh().put("corpus", folder)
    bench.corrupt(ref, "extra.txt", b"not in the manifest")
    try:
        assert content(bench.fresh().open(ref)) == content(folder)
    except IntegrityError:
        return


def test_put_heals_what_was_damaged(bench: Bench, folder: Path) -> None:
    ref = bench.fresh().put("corpus", folder)
    bench.corrupt(ref, "a.txt", b"reserv0ir")
    bench.fresh().put("corpus", folder)
    assert content(bench.fresh().open(ref)) == content(folder)


def test_digests_that_begin_so(bench: Bench, folder: Path) -> None:
    store = bench.fresh()
    refs = [store.put("corpus", folder)]
    (folder / "a.txt").write_text("another")
    refs.append(store.put("corpus", folder))
    store.put("dataset", folder)
    for ref in refs:
        others = [other.digest for other in refs if other.digest.startswith(ref.digest[0])]
        assert bench.fresh().digests("corpus", ref.digest[0]) == sorted(others)
        assert bench.fresh().digests("corpus", ref.digest) == [ref.digest]
    assert bench.fresh().digests("nothing", "a") == []
    for prefix in ("", "../", "*"):
        with pytest.raises(InputError):
            bench.fresh().digests("corpus", prefix)


def test_unknown_artifact(bench: Bench) -> None:
    store = bench.fresh()
    assert store.find("corpus", "0" * 64) is None
    with pytest.raises(IntegrityError, match="run its stage again"):
        store.open(ArtifactRef(kind="corpus", digest="0" * 64, uri=""))


@pytest.mark.parametrize(("kind", "digest"), [("..", "0" * 64), ("corpus", "../../etc"), ("a/b", "0"), ("", "0")])
def test_names_that_would_leave_the_store(bench: Bench, kind: str, digest: str) -> None:
    with pytest.raises(InputError):
        bench.fresh().find(kind, digest)


def test_missing_folder_is_an_input_error(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        bench.fresh().put("corpus", tmp_path / "nothing")
    assert bench.stored() == []


def test_writing_block_that_fails_leaves_nothing(bench: Bench) -> None:
    store = bench.fresh()
    with pytest.raises(ZeroDivisionError), store.writing("corpus") as draft:
        (draft.folder / "a.txt").write_text("half")
        raise ZeroDivisionError
    assert bench.stored() == []


def test_writing_block_stores_at_its_end(bench: Bench) -> None:
    with bench.fresh().writing("corpus") as draft:
        (draft.folder / "a.txt").write_text("whole")
    assert content(bench.fresh().open(draft.stored())) == {"a.txt": b"whole"}


def test_writers_at_the_same_time_agree(bench: Bench, folder: Path) -> None:
    stores = [bench.fresh() for _ in range(4)]
    refs: list[ArtifactRef] = []
    threads = [
        threading.Thread(target=lambda store=store: refs.append(store.put("corpus", folder))) for store in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refs) == 4
    assert len({ref.digest for ref in refs}) == 1
    assert content(bench.fresh().open(refs[0])) == content(folder)


names = st.text(alphabet="abcXYZ019._- é", min_size=1, max_size=12).filter(lambda name: name.strip(". ") != "")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(names, st.binary(max_size=300), min_size=1, max_size=5))
def test_any_files_survive(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("any")
    source = root / "source"
    source.mkdir()
    for name, body in files.items():
        (source / name).write_bytes(body)
    store = LocalStore(root / "store")
    assert content(store.open(store.put("corpus", source))) == files


def test_interrupted_upload_is_invisible_and_completed(
    s3_address: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": s3_address, "ACCESS_KEY_ID": "t", "SECRET_ACCESS_KEY": "t"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="interrupted")
    ref = S3Store("s3://interrupted", tmp_path / "one").put("corpus", folder)
    client.delete_object(Bucket="interrupted", Key=f"corpus/{ref.digest}/manifest.json")
    other = S3Store("s3://interrupted", tmp_path / "two")
    assert other.find("corpus", ref.digest) is None
    other.put("corpus", folder)
    assert content(S3Store("s3://interrupted", tmp_path / "three").open(ref)) == content(folder)


def test_missing_bucket_and_wrong_address(
    s3_address: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": s3_address, "ACCESS_KEY_ID": "t", "SECRET_ACCESS_KEY": "t"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(SetupError, match="bucket"):
        open_store("s3://no-such-bucket/x", tmp_path).put("corpus", folder)
    with pytest.raises(InputError, match="SLUICE_STORE"):
        open_store("gs://bucket", tmp_path)
    with pytest.raises(InputError, match="s3://bucket/prefix"):
        S3Store("s3://", tmp_path)
