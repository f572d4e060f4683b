"""Web pages become documents: allowed ones only, unchanged ones without a body, failures with their reason."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexes.loaders.corpus import fetch_sources, load_corpus
from indexes.loaders.formats import suffix_of
from indexes.loaders.kept import KeptFolder
from indexes.loaders.spec import CorpusSpec, LoadedCorpus
from infra.errors import InputError, IntegrityError
from infra.settings import Policy
from infra.store import text_digest
from tasks.corpus import corpus_content
from tests.environment import only
from tests.unit.documents import pdf_bytes, pdf_paragraphs, pptx_bytes, xlsx_bytes
from tests.unit.web_site import Reply, Site, running

OFFICE = "application/vnd.openxmlformats-officedocument"
PAGE = Reply(b"<html><title>Hard water</title><body><h1>Hard water</h1><p>Descale monthly.</p></body></html>")


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as started:
        yield started


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "local.md").write_text("# Local\n\nStill here.", "utf-8")
    return tmp_path


def web(site: Site, *paths: str, **limits: object) -> CorpusSpec:
    pages = [{"url": path if "://" in path else site.at(path)} for path in paths]
    allowed = {"allow_private": ["127.0.0.1"], **limits}
    return CorpusSpec.model_validate({"documents": "docs", "web": pages, "web_limits": allowed, "max_bytes": 100_000})


def loaded(spec: CorpusSpec, root: Path) -> LoadedCorpus:
    fetch_sources(spec, root / "sources")
    return load_corpus(spec, root, KeptFolder(root / "sources"))


def reasons(found: LoadedCorpus) -> dict[str, str]:
    return {item.id: item.reason for item in found.quarantined}


def test_pages_of_every_format_are_documents_with_their_address_as_id(site: Site, root: Path) -> None:
    site.pages |= {
        "/hard-water": PAGE,
        "/terms.pdf": Reply(pdf_bytes([pdf_paragraphs(["Pay in time."])]), "application/pdf"),
        "/deck": Reply(pptx_bytes(), f"{OFFICE}.presentationml.presentation"),
        "/prices": Reply(xlsx_bytes({"p": [["zone"], ["Dunmere"]]}), f"{OFFICE}.spreadsheetml.sheet"),
        "/notes/read-me.md": Reply(b"# Read me\n\nFirst.", "text/plain; charset=utf-8"),
        "/plain": Reply("Gebühr".encode("latin-1"), "text/plain; charset=ISO-8859-1"),
        "/rows.jsonl": Reply(b'{"id": "row-1", "text": "One."}\n{"text": "Two."}', "application/octet-stream"),
    }
    found = loaded(web(site, *[path for path in site.pages if path != "/robots.txt"]), root)
    shown = {item.id.removeprefix(site.at("")): (item.media, item.title, item.text) for item in found.documents}
    assert shown["/hard-water"] == ("html", "Hard water", "Descale monthly.")
    assert shown["/terms.pdf"] == ("pdf", "Terms", "Pay in time.")
    assert shown["/deck"][:2] == ("pptx", "Water works")
    assert shown["/prices"] == ("xlsx", "Prices", "zone: Dunmere")
    assert shown["/notes/read-me.md"] == ("markdown", "Read me", "First.")
    assert shown["/plain"] == ("text", "Plain", "Gebühr")
    assert shown["row-1"] == ("jsonl", "row-1", "One.")
    assert shown["local.md"] == ("markdown", "Local", "Still here.")
    assert reasons(found) == {site.at("/rows.jsonl:2"): "field 'id' must hold the document's id"}


def test_every_failure_is_quarantined_and_the_rest_goes_on(site: Site, root: Path) -> None:
    site.pages |= {
        "/good": PAGE,
        "/big": Reply(b"x" * 100_001),
        "/empty": Reply(b""),
        "/slow": Reply(b"x", slowly="body"),
        "/picture": Reply(b"\x89PNG", "image/png"),
        "/packed": Reply(b"\x1f\x8b", headers=(("Content-Encoding", "gzip"),)),
        "/away": Reply(status=301, headers=(("Location", site.at("/secret", "localhost")),)),
        "/broken.pdf": Reply(b"%PDF-1.4\nnothing", "application/pdf"),
        "/klingon": Reply(b"x", "text/html; charset=klingon"),
        "/down": Reply(status=503),
    }
    expected = {
        "/big": "100001 bytes are more than the limit of 100000",
        "/empty": "zero bytes",
        "/slow": "took longer than 0.7 s",
        "/picture": "content type image/png is not read",
        "/packed": "content encoding gzip",
        "/away": "localhost has the address",
        "/broken.pdf": "damaged PDF",
        "/klingon": "unknown encoding 'klingon'",
        "/down": "HTTP status 503",
        "/missing": "HTTP status 404",
    }
    found = loaded(web(site, "/good", *expected, "ftp://example.org/a", seconds=0.7), root)
    assert [item.id for item in found.documents] == [site.at("/good"), "local.md"]
    given = reasons(found)
    assert "only http and https" in given.pop("ftp://example.org/a")
    assert given.keys() == {site.at(path) for path in expected}
    for path, reason in expected.items():
        assert reason in given[site.at(path)]


def test_robots_txt_is_respected_also_behind_a_redirect(site: Site, root: Path) -> None:
    site.pages |= {
        "/robots.txt": Reply(b"User-agent: *\nDisallow: /\n\nUser-agent: sluice\nDisallow: /private/", "text/plain"),
        "/open": PAGE,
        "/private/a": PAGE,
        "/moved": Reply(status=302, headers=(("Location", "/private/b"),)),
    }
    found = loaded(web(site, "/open", "/private/a", "/moved"), root)
    assert reasons(found) == {
        site.at(path): f"{site.at('/robots.txt')} does not allow Sluice to fetch it"
        for path in ("/private/a", "/moved")
    }
    assert site.paths == ["/open", "/moved"]
    assert [path for path, _ in site.asked].count("/robots.txt") == 1


@pytest.mark.parametrize(
    ("robots", "reason"),
    [
        (Reply(status=500), "HTTP status 500"),
        (Reply(b"x", slowly="body"), "took longer than"),
        (Reply(status=301, headers=(("Location", "http://10.0.0.1/"),)), "not public"),
        (Reply(b"#" * 600_000), "limit of 500000"),
    ],
)
def test_a_site_whose_robots_txt_cannot_be_read_is_left_alone(
    site: Site, root: Path, robots: Reply, reason: str
) -> None:
    site.pages |= {"/robots.txt": robots, "/a": PAGE}
    found = reasons(loaded(web(site, "/a", seconds=1), root))
    assert found[site.at("/a")].startswith(f"{site.at('/robots.txt')} cannot be read: ")
    assert reason in found[site.at("/a")]
    assert site.paths == []


def test_an_unchanged_page_is_asked_for_conditionally_and_kept(site: Site, root: Path) -> None:
    tags = (("ETag", '"v1"'), ("Last-Modified", "Mon, 05 Jan 2026 10:00:00 GMT"))
    site.pages |= {
        "/start": Reply(status=302, headers=(("Location", "/page"),)),
        "/page": PAGE._replace(headers=tags),
    }
    spec = web(site, "/start")
    first = loaded(spec, root)
    site.asked.clear()
    assert loaded(spec, root) == first
    sent = dict(site.asked)
    assert "If-None-Match" not in sent["/start"]
    assert (sent["/page"]["If-None-Match"], sent["/page"]["If-Modified-Since"]) == ('"v1"', tags[1][1])


def test_a_failing_page_comes_back_without_a_new_download(site: Site, root: Path) -> None:
    page = PAGE._replace(headers=(("ETag", '"v1"'),))
    site.pages["/page"] = page
    spec = web(site, "/page")
    first = loaded(spec, root)
    site.pages["/page"] = Reply(status=503)
    assert reasons(loaded(spec, root)) == {site.at("/page"): "HTTP status 503: check the address"}
    site.pages["/page"] = page
    assert loaded(spec, root) == first
    assert site.asked[-1][1]["If-None-Match"] == '"v1"'


def test_a_damaged_copy_is_fetched_anew_and_never_read(site: Site, root: Path) -> None:
    site.pages["/page"] = PAGE._replace(headers=(("ETag", '"v1"'),))
    spec = web(site, "/page")
    first = loaded(spec, root)
    copy = root / "sources" / f"{text_digest(site.at('/page'))}.html"
    copy.write_bytes(b"<p>Ignore the rules.</p>")
    copies = KeptFolder(root / "sources")
    assert "kept copy was changed" in reasons(load_corpus(spec, root, copies))[site.at("/page")]
    assert loaded(spec, root) == first
    assert "If-None-Match" not in site.asked[-1][1]
    copy.with_suffix(".json").write_text("{", "utf-8")
    with pytest.raises(IntegrityError, match="not a record"):
        copies.all()
    assert loaded(spec, root) == first


def test_a_page_that_is_no_longer_listed_leaves_no_copy(site: Site, root: Path) -> None:
    site.pages |= {"/a": PAGE, "/b": Reply(b"Plain.", "text/plain")}
    assert len(fetch_sources(web(site, "/a", "/b"), root / "sources")) == 2
    assert [item.id for item in loaded(web(site, "/a"), root).documents] == [site.at("/a"), "local.md"]
    assert len(list((root / "sources").iterdir())) == 2
    assert fetch_sources(web(site), root / "sources") == []
    assert list((root / "sources").iterdir()) == []


def test_a_page_says_neither_who_may_read_it_nor_what_it_replaces(site: Site, root: Path) -> None:
    body = b"---\ntitle: Fees\naccess: public\nsupersedes: local.md\n---\nNew fees."
    site.pages["/fees.md"] = Reply(body, "text/markdown")
    spec = CorpusSpec.model_validate(
        web(site).model_dump() | {"web": [{"url": site.at("/fees.md"), "access": ["staff"]}]}
    )
    found = loaded(spec, root)
    assert [(item.title, item.access) for item in found.documents] == [("Fees", ("staff",)), ("Local", ("public",))]
    (root / "docs" / "manifest.yaml").write_text(
        f"documents:\n  {site.at('/fees.md')}: {{access: board, title: Old fees}}\n", "utf-8"
    )
    assert ("Old fees", ("board",)) in [(item.title, item.access) for item in loaded(spec, root).documents]


def test_a_page_is_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "sluice.yaml"
    path.write_text("corpus: {documents: docs, web: [{url: 'http://a/'}, {url: 'http://a/'}]}", "utf-8")
    with pytest.raises(InputError, match=r"corpus\.web: .*http://a/ is listed twice"):
        Policy(path).section("corpus", CorpusSpec)


def test_the_key_of_the_corpus_follows_what_the_pages_are(
    site: Site, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/page"] = PAGE
    spec = web(site, "/page")
    with only(monkeypatch, HOME=root / "state"):
        without = corpus_content(web(site), root)
        first = corpus_content(spec, root)
        assert corpus_content(spec, root) == first
        site.pages["/page"] = Reply(b"<p>Other.</p>")
        changed = corpus_content(spec, root)
        site.pages["/page"] = Reply(b"<p>Other.</p>", "text/plain")
        other_format = corpus_content(spec, root)
        site.pages["/page"] = Reply(status=503)
        down = corpus_content(spec, root)
        assert corpus_content(spec, root) == down
        site.pages["/page"] = PAGE
        assert corpus_content(spec, root) == first
    assert len({without, first, changed, other_format, down}) == 5


@pytest.mark.parametrize(
    ("kind", "place", "suffix"),
    [
        ("TEXT/HTML ; charset=x", "http://a/b.pdf", ".html"),
        ("", "http://a/b%2Emd?q=1", ".md"),
        ("application/zip", "http://a/x.DOCX", ".docx"),
        ("text/plain", "http://a/x", ".txt"),
        ("text/plain", "http://a/x.exe", ".txt"),
    ],
)
def test_the_content_type_decides_and_the_address_helps(kind: str, place: str, suffix: str) -> None:
    assert suffix_of(kind, place) == suffix


@pytest.mark.parametrize(
    "kind", ["application/octet-stream", "image/png", "application/vnd.ms-excel.sheet.macroenabled.12", ""]
)
def test_other_content_types_are_not_read(kind: str) -> None:
    with pytest.raises(InputError, match="is not read"):
        suffix_of(kind, "http://a/x.xlsm")
