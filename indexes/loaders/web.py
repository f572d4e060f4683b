"""Web pages as documents: fetched within limits, allowed by robots.txt, and only when they changed.

A page that cannot be had is recorded with the reason; what was kept of it before stays, so that the next run asks
conditionally again.
"""

import codecs
from collections.abc import Sequence
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

from indexes.loaders.extracted import decode
from indexes.loaders.fetch import AGENT, Answer, Limits, fetch
from indexes.loaders.formats import check_size, suffix_of
from indexes.loaders.kept import Kept, KeptFolder
from indexes.loaders.spec import WebLimits, WebPage
from infra.errors import InputError

_ROBOTS_BYTES = 500_000
"""RFC 9309 asks a reader to take at least 500 KiB; a longer file is a mistake of that server."""
_BINARY = (".pdf", ".docx", ".pptx", ".xlsx")


def fetch_pages(pages: Sequence[WebPage], limits: WebLimits, max_bytes: int, folder: KeptFolder) -> list[Kept]:
    """Bring the kept copies of `pages` up to date, one after another. A page that fails has its `reason`."""
    robots = Robots(Limits(limits.seconds, _ROBOTS_BYTES, frozenset(limits.allow_private)))
    within = Limits(limits.seconds, max_bytes, frozenset(limits.allow_private))
    return [_page(page, within, robots, folder) for page in pages]


def _page(page: WebPage, limits: Limits, robots: "Robots", folder: KeptFolder) -> Kept:
    kept = folder.get(page.url)
    usable = {"reason": "", "access": page.access}

    def conditions(place: str) -> dict[str, str]:
        if kept is None or place != kept.place:
            return {}
        asked = {"If-None-Match": kept.etag, "If-Modified-Since": kept.modified}
        return {name: value for name, value in asked.items() if value}

    try:
        answer = fetch(page.url, limits, conditions, robots.check)
        if answer.status == 304 and kept is not None and answer.place == kept.place:
            return folder.note(kept.model_copy(update=usable))
        body, suffix = _content(answer)
    except InputError as error:
        before = kept or Kept(id=page.url)
        return folder.note(before.model_copy(update={"reason": str(error), "access": page.access}))
    fresh = Kept(
        id=page.url,
        suffix=suffix,
        etag=answer.headers.get("etag", ""),
        modified=answer.headers.get("last-modified", ""),
        place=answer.place,
        access=page.access,
    )
    return folder.put(fresh, lambda stream: stream.write(body))


def _content(answer: Answer) -> tuple[bytes, str]:
    """Body and suffix of a page. Raises InputError for everything but a whole document of a format that is read."""
    if answer.status != 200:
        raise InputError(f"HTTP status {answer.status}: check the address")
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise InputError(f"sent with content encoding {encoding}, which was not asked for")
    check_size(len(answer.body), len(answer.body))
    declared = answer.headers.get("content-type", "")
    suffix = suffix_of(declared, answer.place)
    return (answer.body if suffix in _BINARY else _utf8(answer.body, declared)), suffix


def _utf8(body: bytes, content_type: str) -> bytes:
    """A text whose header states another encoding than UTF-8, as UTF-8 with a byte-order mark: readers go by that."""
    parameters = [item.partition("=") for item in content_type.split(";")[1:]]
    charset = next((value.strip(" \"'") for name, _, value in parameters if name.strip().lower() == "charset"), "")
    if not charset or charset.lower() in ("utf-8", "utf8") or body.startswith(codecs.BOM_UTF8):
        return body
    return codecs.BOM_UTF8 + decode(body, charset).encode()


class Robots:
    """robots.txt of every site that is visited, read once (RFC 9309: none allows all, an unreachable one nothing)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rules: dict[str, RobotFileParser | str] = {}

    def check(self, place: str) -> None:
        """Raises InputError when the site of `place` does not want it to be fetched, or cannot say."""
        parts = urlsplit(place)
        site = f"{parts.scheme}://{parts.netloc}"
        if site not in self._rules:
            self._rules[site] = self._read(site)
        rules = self._rules[site]
        if isinstance(rules, str):
            raise InputError(rules)
        if not rules.can_fetch(AGENT, place):
            raise InputError(f"{site}/robots.txt does not allow {AGENT} to fetch it")

    def _read(self, site: str) -> RobotFileParser | str:
        """The rules of a site, or why it must not be visited."""
        try:
            answer = fetch(f"{site}/robots.txt", self._limits, lambda _: {}, lambda _: None)
        except InputError as error:
            return f"{site}/robots.txt cannot be read: {error}"
        rules = RobotFileParser()
        if answer.status == 200:
            rules.parse(answer.body.decode("utf-8", "replace").removeprefix("\ufeff").splitlines())
        elif 400 <= answer.status < 500:
            rules.parse([])
        else:
            return f"{site}/robots.txt cannot be read: HTTP status {answer.status}"
        return rules
