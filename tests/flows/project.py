"""A project of three short documents with its own state folder, for flows on Prefect's harness."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort

from infra.processes import ProcessManager
from infra.settings import ROOT, settings
from tests.e2e.project import free_ports

DOCUMENTS = {
    "mooring.md": (
        "# Mooring at Pellam Quay\n\nA mooring permit for Pellam Quay costs 64 euros a season. The permit is valid "
        "from 1 April to 31 October.\n\n## Speed\n\nBoats may sail at most 6 knots inside the harbour wall.\n"
    ),
    "ferry.md": (
        "# Ferry to Sorrel Island\n\nThe first ferry to Sorrel Island leaves at 06:40 and the last one at 21:15. A "
        "crossing takes 25 minutes. Dogs travel free of charge when they are on a lead.\n"
    ),
    "lighthouse.html": (
        "<html><head><title>Lighthouse visits</title></head><body><h1>Lighthouse visits</h1><p>The lighthouse of "
        "Cape Orrin opens on Saturdays from 10:00 to 16:00. A visit costs 4 euros, and the stair has 212 steps.</p>"
        "</body></html>"
    ),
}
CASES = (
    ("c-1", "How much does a mooring permit cost?", "64 euros", "mooring.md", "train"),
    ("c-2", "When does the last ferry leave?", "21:15", "ferry.md", "validation"),
    ("c-3", "How many steps has the stair of the lighthouse?", "212 steps", "lighthouse.html", "gate"),
)
SECTIONS = ("chunking", "embedding", "index", "answering")
"""Sections that are taken from the project's own policy file as they are."""


class Project:
    """A project folder. `set` changes its policy; `write` changes a document."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "state"
        self.policy = folder / "sluice.yaml"
        self.documents = folder / "documents"
        self.documents.mkdir(parents=True)
        for name, text in DOCUMENTS.items():
            self.write(name, text)
        rows = [
            {"id": id, "question": question, "answer": answer, "documents": [document], "split": split}
            for id, question, answer, document, split in CASES
        ]
        (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        self._write_policy(
            {
                "model": {"base": "starter"},
                "corpus": {"documents": "documents"},
                "cases": {"files": ["cases.jsonl"]},
            }
        )
        self.take(*SECTIONS)

    def _write_policy(self, sections: dict[str, Any]) -> None:
        self.policy.write_text(yaml.safe_dump(sections), "utf-8")

    def write(self, name: str, text: str) -> None:
        """Write a document."""
        (self.documents / name).write_text(text, "utf-8")

    def set(self, section: str, **values: Any) -> None:
        """Add values to a section of the policy file."""
        sections = yaml.safe_load(self.policy.read_text("utf-8"))
        self._write_policy(sections | {section: (sections.get(section) or {}) | values})

    def take(self, *names: str) -> None:
        """Copy sections of the project's own policy file."""
        sections = yaml.safe_load((ROOT / "sluice.yaml").read_text("utf-8"))
        for name in names:
            self.set(name, **sections[name])

    def drop(self, section: str) -> None:
        """Take a section out of the policy file."""
        sections = yaml.safe_load(self.policy.read_text("utf-8"))
        self._write_policy({name: value for name, value in sections.items() if name != section})

    def stored(self, kind: str, file: str) -> Path:
        """The file of the only artifact of a kind that has it."""
        (found,) = (self.home / "store" / kind).glob(f"*/files/{file}")
        return found


@contextmanager
def serving(project: Project, monkeypatch: pytest.MonkeyPatch, *servers: str) -> Iterator[Project]:
    """The project with `servers` (GATEWAY, ENGINE) on free ports, engines by transformers; all stopped at the end."""
    for name, port in zip(servers, free_ports(len(servers)), strict=True):
        monkeypatch.setenv(f"SLUICE_{name}_PORT", str(port))
    monkeypatch.setenv("SLUICE_ENGINE_KIND", "transformers")
    settings.cache_clear()
    try:
        yield project
    finally:
        ProcessManager(project.home).stop_all()


def shown_artifacts() -> dict[str, str]:
    """Key → data of the artifacts on Prefect's pages, the newest of each key among the last 200."""
    with get_client(sync_client=True) as prefect:
        found = prefect.read_artifacts(sort=ArtifactSort.CREATED_DESC, limit=200)
    return {str(artifact.key): str(artifact.data) for artifact in reversed(found)}
