"""The optional manifest of a documents folder: what the files themselves do not say."""

import datetime
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from infra.errors import InputError
from infra.settings import Spec


class ManifestEntry(Spec):
    """What the manifest says about one document."""

    title: str = ""
    date: datetime.date | None = None
    access: tuple[str, ...] = ()
    """Labels that may read it: one label or a list."""
    split: Literal["", "train", "validation", "gate", "mixed"] = ""
    """Which part of the cases may ask about it; mixed = the rows of a database have entries of their own."""
    supersedes: str | None = None
    """Path of the document that this one replaces."""
    language: str = ""
    notes: tuple[str, ...] = Field((), description="Remarks for people; the loader does not read them")

    @field_validator("access", mode="before")
    @classmethod
    def _one_label(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class Manifest:
    """Path → entry. Rows of a database take the entry of the row, else of `file#table`, else of the file."""

    def __init__(self, entries: dict[str, ManifestEntry]) -> None:
        self.entries = entries

    def entry(self, identity: str) -> ManifestEntry:
        """What is known about a document; an empty entry if nothing is."""
        for name in (identity, identity.rsplit("/", 1)[0] if "#" in identity else identity, identity.split("#")[0]):
            if name in self.entries:
                found = self.entries[name]
                return found if name == identity else found.model_copy(update={"title": "", "supersedes": None})
        return ManifestEntry()

    def superseded(self) -> set[str]:
        """Ids of the documents that others replace."""
        return {entry.supersedes for entry in self.entries.values() if entry.supersedes}


def load_manifest(path: Path) -> Manifest:
    """Read the manifest; an empty one where the folder has none. Raises InputError naming the entry and field."""
    if not path.is_file():
        return Manifest({})
    try:
        loaded = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from error
    listed = loaded.get("documents", {}) if isinstance(loaded, dict) else None
    if not isinstance(listed, dict) or set(loaded) - {"documents"}:
        raise InputError(f"{path}: must hold one mapping `documents:` from paths to entries")
    entries: dict[str, ManifestEntry] = {}
    for name, value in listed.items():
        try:
            entries[str(name)] = ManifestEntry.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{path}: {name}: {field}: {first['msg']}") from None
    return Manifest(entries)
