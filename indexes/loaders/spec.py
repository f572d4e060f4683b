"""What a corpus is made of: the folder, its formats, its database tables, its limits."""

from pydantic import Field

from indexes.types import Document, Quarantined
from infra.settings import Spec


class SqlTable(Spec):
    """One table of a database; every row becomes a document."""

    url: str
    """SQLAlchemy URL; a SQLite path is relative to the documents folder and is opened read-only."""
    table: str
    """Table or view name."""
    key: str
    """Column that identifies a row."""
    title: tuple[str, ...] = ()
    """Columns that make the title of a row."""


class JsonlFields(Spec):
    """Which fields of a JSON line hold a document."""

    id: str = "id"
    """Field with the document id, taken as it is."""
    title: str = "title"
    """Field with the title (underscores become spaces)."""
    text: str = "text"
    """Field with the text: a string, or a list of paragraphs."""
    paragraph_sections: bool = False
    """Make every paragraph of a list its own section, so that no chunk crosses paragraphs."""


class CorpusSpec(Spec):
    """Where the documents are and which are taken."""

    documents: str
    """Folder of the documents, relative to the policy file."""
    include: tuple[str, ...] = ("**/*",)
    """Glob patterns below the folder; a file of an unknown format is quarantined, hidden files are skipped."""
    manifest: str = "manifest.yaml"
    """Optional file in the folder: path → title, date, access, split, supersedes."""
    sql: tuple[SqlTable, ...] = ()
    """Database tables whose rows are documents."""
    jsonl: JsonlFields = JsonlFields()
    """Field names of .jsonl files."""
    default_access: tuple[str, ...] = Field(("public",), min_length=1)
    """Access labels of a document for which neither the manifest nor its front matter names any."""
    languages: tuple[str, ...] = Field(("en",), min_length=1)
    """Languages that are taken; the first is assumed where a document names none."""
    max_bytes: int = Field(20_000_000, ge=1)
    """A larger file is quarantined."""
    max_characters: int = Field(2_000_000, ge=1)
    """A document with more extracted text is quarantined."""
    seconds_per_document: float = Field(60, gt=0)
    """A document that takes longer to read is quarantined."""
    memory_mb: int = Field(4096, ge=256)
    """Address space that the reading process may take, MiB."""


class LoadedCorpus(Spec):
    """The usable documents in a fixed order, and what became of the others."""

    documents: list[Document]
    """Sorted by id."""
    quarantined: list[Quarantined]
    """Sorted by id: one entry for everything that could not be used."""
    superseded: list[str]
    """Ids of documents left out because a newer one replaces them."""
    splits: dict[str, str]
    """Document id → train, validation or gate, where the manifest says so."""
