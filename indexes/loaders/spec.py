"""What a corpus is made of: the folder, its database tables, web pages, buckets, their formats and limits."""

from pydantic import Field, field_validator

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


class WebPage(Spec):
    """One document on the web; its id is the address."""

    url: str
    """http or https address, without user, password and fragment; the format is taken from the content type."""
    access: tuple[str, ...] = ()
    """Labels that may read it; empty: those of the manifest, else the default ones. The page itself has no say."""


class WebLimits(Spec):
    """What a fetch from the web may cost and where it may go. robots.txt is always respected."""

    seconds: float = Field(30, gt=0, le=600)
    """Time for one address with all its redirects; a slower one is quarantined."""
    allow_private: tuple[str, ...] = ()
    """Hosts, as they stand in the address, that may lie in a private, loopback or link-local network."""


class BucketPrefix(Spec):
    """Objects of an S3 bucket; each is a document with the id `s3://bucket/key`."""

    url: str = Field(pattern=r"^s3://[^/?#\s]+(/[^?#]*)?$")
    """`s3://bucket` or `s3://bucket/folder`. Endpoint and credentials come from the environment only, as boto3's do."""
    include: tuple[str, ...] = ("*",)
    """Patterns of keys below the folder; `*` also crosses `/`. Keys with a part that begins with a dot are skipped."""
    access: tuple[str, ...] = ()
    """Labels that may read the objects; the manifest goes first; empty: the object's own, else the default ones."""

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.url.removeprefix("s3://").split("/", 1)[0]

    @property
    def prefix(self) -> str:
        """What every key begins with: empty, or a folder with its final slash."""
        folder = self.url.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{folder}/" if folder else ""


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
    web: tuple[WebPage, ...] = ()
    """Web pages that are documents."""
    web_limits: WebLimits = WebLimits()
    """Limits of fetching them."""
    buckets: tuple[BucketPrefix, ...] = ()
    """S3 buckets, or folders in them, whose objects are documents."""
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

    @field_validator("web")
    @classmethod
    def _each_page_once(cls, pages: tuple[WebPage, ...]) -> tuple[WebPage, ...]:
        urls = [page.url for page in pages]
        twice = sorted({url for url in urls if urls.count(url) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is listed twice")
        return pages


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
