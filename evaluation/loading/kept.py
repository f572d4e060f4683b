"""Reports of loads on disk: written with their pictures, found again by path or by the beginning of a digest."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from evaluation.load import LoadReport
from evaluation.loading.benchmark import BenchmarkReport
from evaluation.loading.comparing import Compared
from evaluation.loading.pictures import comparison_picture, pictures_of
from infra.errors import InputError
from infra.store import ArtifactRef, ArtifactStore, canonical_json, write_atomic

BENCHMARK, LOAD = "benchmark.json", "load.json"
KINDS = ("benchmark-report", "load-report")
"""Artifacts that hold loads: those of a whole benchmark, and of one load (a night's)."""


def write_benchmark(report: BenchmarkReport, folder: Path) -> None:
    """The report as JSON, with every picture beside it."""
    write_atomic(folder / BENCHMARK, canonical_json(report.model_dump(mode="json")))
    for name, svg in pictures_of(report.loads, report.searches).items():
        write_atomic(folder / name, svg)


def write_comparison(rows: Sequence[Compared], folder: Path) -> None:
    """A comparison as JSON, with its picture."""
    write_atomic(folder / "comparison.json", canonical_json([row.model_dump(mode="json") for row in rows]))
    write_atomic(folder / "comparison.svg", comparison_picture(rows))


def _parsed(path: Path, model: type[BaseModel]) -> BaseModel:
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: not a report of loads of this version: {field}: {first['msg']}") from error


def loads_in(place: Path) -> dict[str, LoadReport]:
    """The loads of a report, by name: its folder, or the JSON file itself.

    Raises: InputError for what is no report of loads.
    """
    found = [place] if place.is_file() else [place / name for name in (BENCHMARK, LOAD) if (place / name).is_file()]
    if not found:
        raise InputError(f"{place}: no {BENCHMARK} or {LOAD} in it")
    if found[0].name == LOAD:
        report = _parsed(found[0], LoadReport)
        assert isinstance(report, LoadReport), "parsed as one"
        return {report.spec.name: report}
    whole = _parsed(found[0], BenchmarkReport)
    assert isinstance(whole, BenchmarkReport), "parsed as one"
    return dict(whole.loads)


def find_loads(reference: str, store: ArtifactStore) -> dict[str, LoadReport]:
    """The loads that a path or the beginning of a report's digest names.

    Raises: InputError where nothing or more than one report is meant.
    """
    if Path(reference).exists():
        return loads_in(Path(reference))
    if not reference.isalnum():
        raise InputError(f"{reference!r}: neither a file nor the beginning of a digest")
    found = [(kind, digest) for kind in KINDS for digest in store.digests(kind, reference)]
    if len(found) != 1:
        raise InputError(
            f"report {reference!r}: {len(found)} match; give a path or more of the digest that `sluice run benchmark` "
            "ended with"
        )
    kind, digest = found[0]
    return loads_in(store.open(ArtifactRef(kind=kind, digest=digest, uri="")))
