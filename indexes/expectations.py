"""Runs one Great Expectations suite over rows: what broke, by the ids of the rows, and Data Docs to open offline."""

import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from indexes.pages import make_self_contained
from infra.settings import QUIET, Spec

Severity = Literal["critical", "warning"]
Row = Mapping[str, object]
_NAMED = 20
"""Rows that are named for a broken expectation; the library copies them several times over."""
_LEAST = ("id", "labels", "title_characters", "copies")
"""Columns of a table without rows."""


class Failure(Spec):
    """One expectation that did not hold, and the rows that broke it."""

    expectation: str
    rows: tuple[str, ...]
    """Ids, at most 20 (_NAMED); empty when the whole table broke it."""
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


class Expect:
    """Makes expectations with a severity. `kinds` has every one of the library; the methods are those used most."""

    def __init__(self) -> None:
        self.kinds = _gx("expectations")

    def between(self, column: str, low: float | None, high: float | None, severity: Severity = "critical") -> Any:
        """Every value lies in [low, high]."""
        return self.kinds.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, severity=severity)

    def present(self, column: str, severity: Severity = "critical") -> Any:
        """No value is missing."""
        return self.kinds.ExpectColumnValuesToNotBeNull(column=column, severity=severity)

    def among(self, column: str, values: Sequence[object], severity: Severity = "critical", mostly: float = 1) -> Any:
        """At least a share `mostly` of the values is one of `values`; a missing value counts as one."""
        return self.kinds.ExpectColumnValuesToBeInSet(
            column=column, value_set=list(values), mostly=mostly, severity=severity
        )


def columns_of(rows: Iterable[Row]) -> dict[str, list[object]]:
    """Rows as columns, so that no row has to be held. All rows have the same names."""
    columns: dict[str, list[object]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def run_suite(
    suite: str,
    columns: Mapping[str, Sequence[object]],
    make: Callable[[Expect], list[Any]],
    docs_folder: Path,
) -> ValidationReport:
    """Validate a table with a column `id` in a context that lives only in memory; Data Docs go below `docs_folder`."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import pandas as pd

    gx = _gx()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = _gx("data_context.types.base").ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("corpus").add_dataframe_asset(suite)
    batch = asset.add_batch_definition_whole_dataframe("all")
    expectations = context.suites.add(gx.ExpectationSuite(name=suite, expectations=make(Expect())))
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
            result_format={
                "result_format": "SUMMARY",
                "partial_unexpected_count": _NAMED,
                "unexpected_index_column_names": ["id"],
            },
        )
    )
    frame = pd.DataFrame(dict(columns) if columns.get("id") else dict.fromkeys(_LEAST, ()))
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
    ids = [str(row["id"]) for row in outcome.result.get("partial_unexpected_index_list") or []]
    observed = outcome.result.get("observed_value", outcome.result.get("partial_unexpected_list"))
    if outcome.exception_info and outcome.exception_info.get("raised_exception"):
        observed = f"the expectation itself failed: {outcome.exception_info.get('exception_message')}"
    rule = outcome.expectation_config.type.removeprefix("expect_").replace("_", " ")
    return Failure(
        expectation=f"{column}: {rule}{f' ({limits})' if limits else ''}",
        rows=tuple(ids),
        observed=str(observed)[:300],
    )
