"""Great Expectations suites for documents and for chunks, with Data Docs that open without a network.

The suites see lengths, counts and ids, never the text, so Data Docs hold no personal data.
"""

import datetime
import importlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from indexes.pages import make_self_contained
from indexes.types import Chunk, Document
from infra.settings import QUIET, Spec
from infra.store import text_digest

Severity = Literal["critical", "warning"]


class ValidationSpec(Spec):
    """Bounds that documents and chunks must keep. A broken bound fails the stage; a broken `usual` bound warns."""

    min_characters: int = Field(1, ge=1)
    """Least text of a document."""
    usual_min_characters: int = Field(200, ge=1)
    """A shorter document that is no table row is a warning."""
    max_characters: int = Field(2_000_000, ge=1)
    """Most text of a document."""
    earliest: datetime.date = datetime.date(1990, 1, 1)
    """No document is dated earlier; none is dated in the future."""
    max_duplicate_share: float = Field(0.05, ge=0, le=1)
    """Most documents, and most chunks, that repeat the text of another one, as a share."""
    max_broken_characters: int = Field(0, ge=0)
    """Most replacement characters (signs of a wrong encoding) in a document."""
    min_chunk_characters: int = Field(2, ge=1)
    """Least text of a chunk."""
    usual_min_chunk_tokens: int = Field(5, ge=1)
    """A shorter chunk is a warning."""
    max_chunk_tokens: int = Field(500, ge=8)
    """Most tokens of a chunk."""


class Failure(Spec):
    """One expectation that did not hold, and the rows that broke it."""

    expectation: str
    rows: tuple[str, ...]
    """Ids, at most 20; empty when the whole table broke it."""
    observed: str = ""


class ValidationReport(Spec):
    """The outcome of one suite."""

    suite: str
    success: bool
    expectations: int
    failures: tuple[Failure, ...]
    warnings: tuple[Failure, ...]
    data_docs: str
    """Page to open, relative to the docs folder."""


def validate_documents(documents: Sequence[Document], spec: ValidationSpec, docs_folder: Path) -> ValidationReport:
    """Run the document suite and write Data Docs into `docs_folder`. An empty corpus fails."""
    copies = Counter(text_digest(" ".join(document.text.split()).lower()) for document in documents)
    rows = [
        {
            "id": document.id,
            "title_characters": len(document.title.strip()),
            "characters": len(document.text.strip()),
            "prose_characters": None if document.media in ("sql", "csv", "xlsx") else len(document.text.strip()),
            "labels": len([label for label in document.access if label.strip()]),
            "date": _day_number(document.date) if document.date else None,
            "broken_characters": document.text.count("\ufffd"),
            "copies": copies[text_digest(" ".join(document.text.split()).lower())] - 1,
        }
        for document in documents
    ]
    return _run("documents", rows, lambda build: _document_suite(build, spec), docs_folder)


def validate_chunks(chunks: Sequence[Chunk], spec: ValidationSpec, docs_folder: Path) -> ValidationReport:
    """Run the chunk suite and write Data Docs into `docs_folder`. A corpus without chunks fails."""
    copies = Counter(text_digest(chunk.text) for chunk in chunks)
    rows = [
        {
            "id": chunk.id,
            "title_characters": len(chunk.title.strip()),
            "characters": len(chunk.text.strip()),
            "tokens": chunk.tokens,
            "start": chunk.start,
            "end": chunk.end,
            "labels": len([label for label in chunk.access if label.strip()]),
            "copies": copies[text_digest(chunk.text)] - 1,
        }
        for chunk in chunks
    ]
    return _run("chunks", rows, lambda build: _chunk_suite(build, spec), docs_folder)


class _Build:
    """Makes expectations with a severity; `between` is the one used most."""

    def __init__(self) -> None:
        self.kinds = _gx("expectations")

    def between(self, column: str, low: float | None, high: float | None, severity: Severity = "critical") -> Any:
        """Every value lies in [low, high]."""
        return self.kinds.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, severity=severity)

    def table(self, spec: ValidationSpec, rows_at_least: int = 1) -> list[Any]:
        """What holds for every table: some rows, ids present and unique, access labels, few duplicates."""
        return [
            self.kinds.ExpectTableRowCountToBeBetween(min_value=rows_at_least, severity="critical"),
            self.kinds.ExpectColumnValuesToNotBeNull(column="id", severity="critical"),
            self.kinds.ExpectColumnValuesToBeUnique(column="id", severity="critical"),
            self.between("labels", 1, None),
            self.between("title_characters", 1, None),
            self.kinds.ExpectColumnValuesToBeInSet(
                column="copies", value_set=[0], mostly=1 - spec.max_duplicate_share, severity="critical"
            ),
            self.kinds.ExpectColumnValuesToBeInSet(column="copies", value_set=[0], severity="warning"),
        ]


def _day_number(day: datetime.date) -> int:
    """2026-01-31 → 20260131, which compares as the date does."""
    return int(day.strftime("%Y%m%d"))


def _document_suite(build: _Build, spec: ValidationSpec) -> list[Any]:
    today = datetime.datetime.now(datetime.UTC).date()
    return [
        *build.table(spec),
        build.between("characters", spec.min_characters, spec.max_characters),
        build.between("prose_characters", spec.usual_min_characters, None, "warning"),
        build.between("broken_characters", 0, spec.max_broken_characters),
        build.between("date", _day_number(spec.earliest), _day_number(today)),
        build.kinds.ExpectColumnValuesToNotBeNull(column="date", severity="warning"),
    ]


def _chunk_suite(build: _Build, spec: ValidationSpec) -> list[Any]:
    return [
        *build.table(spec),
        build.between("characters", spec.min_chunk_characters, None),
        build.between("tokens", 1, spec.max_chunk_tokens),
        build.between("tokens", spec.usual_min_chunk_tokens, None, "warning"),
        build.between("start", 0, None),
        build.kinds.ExpectColumnPairValuesAToBeGreaterThanB(column_A="end", column_B="start", severity="critical"),
    ]


def _run(
    suite: str,
    rows: Sequence[Mapping[str, object]],
    make: Callable[[_Build], list[Any]],
    docs_folder: Path,
) -> ValidationReport:
    """Validate the rows in a context that lives only in memory."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import pandas as pd

    gx = _gx()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = _gx("data_context.types.base").ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("corpus").add_dataframe_asset(suite)
    batch = asset.add_batch_definition_whole_dataframe("all")
    expectations = context.suites.add(gx.ExpectationSuite(name=suite, expectations=make(_Build())))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=suite, data=batch, suite=expectations))
    pages = docs_folder / suite
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    context.add_data_docs_site("local", _site(pages))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=suite,
            validation_definitions=[definition],
            actions=[_gx("checkpoint").UpdateDataDocsAction(name="pages", site_names=["local"])],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]},
        )
    )
    columns = list(rows[0]) if rows else ["id", "labels", "title_characters", "copies"]
    frame = pd.DataFrame([dict(row) for row in rows], columns=columns)
    result = checkpoint.run(batch_parameters={"dataframe": frame})
    outcomes = [outcome for run in result.run_results.values() for outcome in run.results]
    return _report(suite, outcomes, make_self_contained(pages, suite).relative_to(docs_folder))


def _gx(part: str = "") -> Any:
    """The library or a module of it: imported when needed (seconds), and without its partial type hints."""
    return importlib.import_module(f"great_expectations.{part}" if part else "great_expectations")


def _site(folder: Path) -> dict[str, object]:
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
    }


def _report(suite: str, outcomes: Sequence[Any], page: Path) -> ValidationReport:
    broken: dict[str, list[Failure]] = {"critical": [], "warning": []}
    for outcome in outcomes:
        if not outcome.success:
            severity = "warning" if str(outcome.expectation_config.severity).lower().endswith("warning") else "critical"
            broken[severity].append(_failure(outcome))
    return ValidationReport(
        suite=suite,
        success=not broken["critical"],
        expectations=len(outcomes),
        failures=tuple(broken["critical"]),
        warnings=tuple(broken["warning"]),
        data_docs=str(page),
    )


def _failure(outcome: Any) -> Failure:
    """The expectation in words, the ids that broke it, and what was seen."""
    settings = outcome.expectation_config.kwargs
    column = settings.get("column") or settings.get("column_A") or "rows"
    bounds = {
        name: value
        for name, value in settings.items()
        if name in ("min_value", "max_value", "value_set", "mostly", "column_B") and value is not None
    }
    limits = ", ".join(f"{name} {value}" for name, value in bounds.items())
    ids = [str(row["id"]) for row in outcome.result.get("unexpected_index_list") or []]
    observed = outcome.result.get("observed_value", outcome.result.get("partial_unexpected_list"))
    if outcome.exception_info and outcome.exception_info.get("raised_exception"):
        observed = f"the expectation itself failed: {outcome.exception_info.get('exception_message')}"
    rule = outcome.expectation_config.type.removeprefix("expect_").replace("_", " ")
    return Failure(
        expectation=f"{column}: {rule}{f' ({limits})' if limits else ''}",
        rows=tuple(ids[:20]),
        observed=str(observed)[:300],
    )
