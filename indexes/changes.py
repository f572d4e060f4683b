"""What differs between two versions of a corpus: documents that came, went, changed or were renamed."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from indexes.types import Document


class Change(NamedTuple):
    """One document that differs."""

    document: str
    change: Literal["added", "changed", "removed", "renamed"]
    before: str = ""
    """Earlier id of a renamed document."""


def digests_of(documents: Iterable[Document]) -> dict[str, str]:
    """Document id → digest of its bytes."""
    return {document.id: document.digest for document in documents}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Every document that differs, by id. One that went is renamed where one that came has its bytes."""
    gone = {digest: name for name, digest in sorted(before.items(), reverse=True) if name not in after}
    found: list[Change] = []
    for name, digest in sorted(after.items()):
        if name in before:
            if before[name] != digest:
                found.append(Change(name, "changed"))
        elif digest in gone:
            found.append(Change(name, "renamed", gone.pop(digest)))
        else:
            found.append(Change(name, "added"))
    earlier = {change.before for change in found}
    removed = [Change(name, "removed") for name in before if name not in after and name not in earlier]
    return sorted([*found, *removed])
