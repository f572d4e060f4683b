"""Reading, sketching and cutting again compute only what differs, and end in the same bytes as from nothing."""

from pathlib import Path

import pytest

from indexes.cache import ContentCache
from indexes.chunkers.spec import ChunkSpec
from indexes.chunking import Cut, write_chunks
from indexes.corpus import documents_in, write_corpus, write_without
from indexes.duplicates import DuplicateSpec, find_duplicates
from indexes.fake import HashingEmbedder
from indexes.loaders.corpus import open_corpus
from indexes.loaders.spec import CorpusSpec
from indexes.sketches import Sketches
from infra.errors import InputError
from infra.settings import ROOT
from infra.store import folder_manifest, value_digest
from tests.unit.documents import pdf_bytes, pdf_paragraphs

TOKENIZER = ROOT / "models" / "starter" / "weights"
WHOLE = ChunkSpec()


class Project:
    """A documents folder with caches beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.documents = root / "docs"
        self.documents.mkdir()
        self.spec = CorpusSpec(documents="docs")
        self.runs = 0
        for number in range(6):
            self.write(f"d{number}.md", f"# Notice {number}\n\nNotice number {number} is about gate {number * 7}.\n")

    def write(self, name: str, text: str) -> None:
        (self.documents / name).write_text(text, "utf-8")

    def cache(self, name: str) -> ContentCache:
        return ContentCache(self.root / "kept" / name)

    def read(self, spec: CorpusSpec | None = None) -> tuple[int, int, str]:
        """(computed, total, digest) of the corpus; it lies in `corpus`."""
        self.runs += 1
        self.corpus = self.root / f"corpus-{self.runs}"
        self.corpus.mkdir()
        with open_corpus(spec or self.spec, self.root, cache=self.cache("read")) as found:
            write_corpus(found, self.corpus)
        return found.computed, found.total, digest(self.corpus)

    def afresh(self) -> str:
        """Digest of the corpus, read without a cache."""
        folder = self.root / f"afresh-{self.runs}"
        folder.mkdir()
        with open_corpus(self.spec, self.root) as found:
            write_corpus(found, folder)
        return digest(folder)

    def sketch(self) -> int:
        """Sketches that had to be made."""
        sketches = Sketches(self.cache("sketches"))
        documents = documents_in(self.corpus)
        assert find_duplicates(documents, DuplicateSpec(), sketches) == find_duplicates(
            list(documents), DuplicateSpec()
        )
        return sketches.computed

    def cut(self, spec: ChunkSpec = WHOLE) -> tuple[Cut, str]:
        """What was cut, and the digest of the chunks."""
        folder = self.root / f"chunks-{self.runs}-{digest(self.corpus)[:8]}"
        folder.mkdir(exist_ok=True)
        documents = documents_in(self.corpus)
        made = write_chunks(documents, spec, TOKENIZER, folder, self.cache("chunks"), HashingEmbedder())
        return made, digest(folder)


def digest(folder: Path) -> str:
    return value_digest(folder_manifest("test", folder))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_only_files_that_differ_are_read_sketched_and_cut(project: Project) -> None:
    first = project.read()
    assert first == (6, 6, project.afresh())
    assert project.sketch() == 6
    whole, chunks = project.cut()
    assert (whole.computed, whole.chunks) == (6, 6)

    assert project.read() == (0, 6, first[2])
    assert project.sketch() == 0
    assert project.cut() == (whole.model_copy(update={"computed": 0}), chunks)

    old = (project.documents / "d3.md").read_text("utf-8")
    project.write("d3.md", old.replace("gate 21", "gate 22"))
    (project.documents / "d1.md").unlink()
    (project.documents / "d5.md").rename(project.documents / "renamed.md")
    computed, total, changed = project.read()
    assert (computed, total, changed) == (1, 5, project.afresh())
    assert [document.id for document in documents_in(project.corpus)] == [
        "d0.md", "d2.md", "d3.md", "d4.md", "renamed.md",
    ]  # fmt: skip
    assert project.sketch() == 1
    again, _ = project.cut()
    assert (again.computed, again.chunks) == (2, 5), "the changed one, and the renamed one, whose chunks have other ids"

    project.write("d3.md", old)
    project.write("d1.md", "# Notice 1\n\nNotice number 1 is about gate 7.\n")
    (project.documents / "renamed.md").rename(project.documents / "d5.md")
    assert project.read() == (0, 6, first[2])
    assert project.sketch() == 0
    assert project.cut() == (whole.model_copy(update={"computed": 0}), chunks)


def test_lost_caches_change_no_byte(project: Project) -> None:
    first, (whole, chunks) = project.read(), (project.sketch(), project.cut())[1]
    for file in (project.root / "kept").iterdir():
        file.write_bytes(b"no database")
    assert project.read() == first
    assert project.sketch() == 6
    assert project.cut() == (whole, chunks)


def test_what_decides_a_text_is_part_of_its_key(project: Project) -> None:
    project.write("prices.csv", "berth,fee\nnorth,12\n")
    project.write("rows.jsonl", '{"id": "j1", "text": "One line."}\n{"id": "j2", "text": "Two lines.", "more": "x"}\n')
    assert project.read()[:2] == (9, 9)
    project.write("manifest.yaml", "documents: {d1.md: {title: Another}, prices.csv: {title: Fees}}")
    assert project.read() == (1, 9, project.afresh()), "a table's lines begin with its title"
    project.write("rows.jsonl", '{"id": "j1", "text": "One line."}\n{"id": "j2", "text": "Two lines!", "more": "x"}\n')
    assert project.read() == (1, 9, project.afresh())
    project.spec = CorpusSpec.model_validate({"documents": "docs", "jsonl": {"title": "more"}})
    assert project.read() == (2, 9, project.afresh())


def test_labels_and_replaced_documents_need_no_reading(project: Project) -> None:
    project.read()
    project.write("manifest.yaml", "documents: {d1.md: {access: staff, supersedes: d2.md}, d4.md: {date: 2026-01-02}}")
    computed, _, told = project.read()
    assert (computed, told) == (0, project.afresh())
    assert [document.id for document in documents_in(project.corpus)] == ["d0.md", "d1.md", "d3.md", "d4.md", "d5.md"]


def test_a_reason_is_kept_and_a_stop_is_not(project: Project) -> None:
    project.write("broken.pdf", "%PDF-1.4 and then nothing")
    (project.documents / "sound.pdf").write_bytes(pdf_bytes([pdf_paragraphs(["The quay opens at eight."])]))
    hasty = project.spec.model_copy(update={"seconds_per_document": 1e-6})
    with pytest.raises(InputError, match="no usable document"):
        project.read(hasty)
    assert project.read()[:2] == (8, 8), "nothing that was stopped by the clock counts as read"
    computed, _, told = project.read()
    assert (computed, told) == (0, project.afresh())
    assert "damaged PDF" in (project.corpus / "quarantined.jsonl").read_text("utf-8")
    assert project.read(hasty)[0] == 0, "and what was read does not have to be read again"


def test_other_budgets_cut_again_and_other_encoders_do_where_meanings_count(project: Project) -> None:
    project.read()
    assert project.cut()[0].computed == 6
    assert project.cut(ChunkSpec(max_tokens=8))[0].computed > 6
    semantic = ChunkSpec(strategy="semantic")
    assert project.cut(semantic)[0].computed == 6
    assert project.cut(semantic)[0].computed == 0


def test_documents_are_taken_out_without_another_change(project: Project, tmp_path: Path) -> None:
    project.write("manifest.yaml", "documents: {d1.md: {split: gate}, d2.md: {split: train}}")
    project.read()
    write_without(project.corpus, {"d1.md"}, tmp_path / "less")
    (project.documents / "d1.md").unlink()
    project.write("manifest.yaml", "documents: {d2.md: {split: train}}")
    project.read()
    assert digest(tmp_path / "less") == digest(project.corpus)
