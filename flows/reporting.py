"""Builds the report of a night from what its stages handed on, and keeps page and data under the state folder."""

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from prefect.artifacts import create_markdown_artifact

from evaluation.gate import GatePolicy
from evaluation.loading.tables import WORDS
from evaluation.metrics import case_values, table, vector
from evaluation.report import write_report as write_page
from evaluation.run_report import (
    Asked,
    Change,
    DuplicateLine,
    Figure,
    GateReport,
    Link,
    MetricLine,
    QuantizationLine,
    QuarantineLine,
    RetrievalLine,
    RunReport,
    Source,
    StageLine,
    gate_report,
    metric_lines,
)
from evaluation.statistics import clusters_of
from evaluation.types import Interval
from flows.recording import Recording, data_docs
from infra.cost import CostSpec, cost
from infra.settings import settings
from infra.store import write_atomic
from models.release import Release
from tasks.measuring import observations_of, scores_of
from tasks.releasing import decision_of, verdict_of

if TYPE_CHECKING:
    from flows.nightly import NightResult

SIMPLIFIED = (
    "The user of the canary is simulated: the traffic file is replayed to both arms and rated by reference answers.",
    "Faithfulness is extractive: an answer must stand word for word in a passage it cites. No model judges.",
    "Personal data is found by patterns (mail, phone, card, IBAN, account number), not by a name recogniser.",
    "Passages are ranked by fused BM25 and vector search; there is no re-ranking model yet.",
)
SHARED_AMONG = 1000
"""Requests or answers that a cost is given for: one costs too little to read."""
UNITS = {"output_tokens_per_s": "tokens/s", "requests_per_s": "requests/s", "errors": "requests"}


def report_page(candidate: str) -> Path:
    """Where the page about a candidate lies; its data lie beside it as JSON."""
    return settings().home / "reports" / f"{candidate[:16]}.html"


def is_reported(candidate: str) -> bool:
    """Whether the story of this candidate was told."""
    return report_page(candidate).is_file()


def _intervals(run: Recording, label: str) -> dict[str, Interval]:
    """Every metric of a measured release with its interval."""
    rows = observations_of(run.ref(f"ask-{label}", "observations"))
    return table(scores_of(run.ref(f"score-{label}", "scores")), clusters_of([row.case for row in rows]))


def _gates(run: Recording) -> tuple[GateReport, ...]:
    policy = run.policy.section("gate", GatePolicy)
    titles = {"gate-first": "First release: the starter as it is", "gate": "Candidate against production"}
    return tuple(
        gate_report(title, verdict_of(run.ref(name, "gate-report")), policy)
        for name, title in titles.items()
        if name in run.results
    )


def _quantization(run: Recording) -> tuple[tuple[QuantizationLine, ...], str]:
    chosen = run.results["choose-precision"]
    lines = tuple(
        QuantizationLine(
            precision=row["precision"],
            bytes_on_disk=row["bytes_on_disk"],
            tokens_per_s=row["tokens_per_s"],
            p50_ms=row["p50_ms"] or 0.0,
            p95_ms=row["p95_ms"] or 0.0,
            quality=_intervals(run, row["precision"])["answer_correct"],
            difference=Interval.model_validate(row["difference"]) if row["difference"] else None,
            chosen=row["precision"] == chosen.params["precision"],
        )
        for row in chosen.table
    )
    return lines, "; ".join(note.removeprefix("- ") for note in chosen.notes[1:])


def _shown(part: Any) -> str:
    """A part of a release in a few words: an artifact by its digest."""
    if isinstance(part, dict):
        inner = {name: _shown(value) for name, value in part.items() if value not in (None, "", [], {})}
        words = ", ".join(f"{name} {value}" for name, value in inner.items())
        return inner.get("digest") or words or "none"
    return str(part)[:12]


def _without_addresses(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {name: _without_addresses(value) for name, value in part.items() if name != "uri"}


def changes_between(candidate: Release, baseline: Release) -> tuple[Change, ...]:
    """The parts in which candidate and baseline differ; of a part with fields, the fields that differ."""
    ours, theirs = (_without_addresses(release.model_dump(mode="json")) for release in (candidate, baseline))
    changes = []
    for name, after in ours.items():
        before = theirs[name]
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict) and "digest" not in after:
            fields = [field for field in {**before, **after} if before.get(field) != after.get(field)]
            before, after = ({field: part.get(field) for field in fields} for part in (before, after))
        changes.append(Change(part=name, before=_shown(before), after=_shown(after)))
    return tuple(changes)


def _costs(run: Recording, label: str) -> tuple[Figure, ...]:
    """Machine time of the gate's questions at the policy's price, shared among requests and good answers."""
    spec = run.policy.section("cost", CostSpec)
    rows = observations_of(run.ref(f"ask-{label}", "observations"))
    good = int(vector(case_values(scores_of(run.ref(f"score-{label}", "scores")), "answer_correct")).sum())
    told = cost(spec, sum(row.answer.latency_ms for row in rows) / 1000, len(rows), good)
    amounts = {"requests": told.per_request, "good answers": told.per_good_answer}
    return tuple(
        Figure(name=f"{label}, {SHARED_AMONG:,} {name}", value=SHARED_AMONG * value, unit=spec.currency)
        for name, value in amounts.items()
        if value is not None
    )


def load_figure(name: str, value: float) -> Figure:
    """A figure of a load by its name in words: `ttft_ms_p95` is the first token, P95, in ms."""
    time_of, _, percentile = name.rpartition("_p")
    if time_of in WORDS:
        return Figure(name=f"{WORDS[time_of]}, P{percentile}", value=value, unit="ms")
    return Figure(name=name.removesuffix("_per_s").replace("_", " "), value=value, unit=UNITS.get(name, ""))


def asked_lines(answers: list[dict[str, Any]]) -> tuple[Asked, ...]:
    """Answers of the gateway as the page shows them."""
    names = ("question", "answer", "refused", "release", "trace_id", "latency_ms")
    sources = ("number", "title", "document", "text")
    return tuple(
        Asked(
            **{name: answer[name] for name in names},
            sources=tuple(Source(**{name: item[name] for name in sources}) for item in answer["citations"]),
        )
        for answer in answers
    )


def _links(run: Recording) -> tuple[Link, ...]:
    found = [Link(label="MLflow run", url=run.tracker.run_address(run.mlflow_run))]
    found += [Link(label="Prefect", url=settings().prefect_address.removesuffix("/api"))]
    for stage, label in (("check-documents", "Data Docs: documents"), ("check-chunks", "Data Docs: chunks")):
        found.append(Link(label=label, url=data_docs(run.ref(stage, "data-docs"))))
    return tuple(found)


def _metrics(run: Recording) -> tuple[MetricLine, ...]:
    return metric_lines(_intervals(run, "candidate"), _intervals(run, "production"))


def build_report(run: Recording, result: "NightResult", candidate: Release, baseline: Release) -> RunReport:
    """The report of a night that came to a decision."""
    lines, why = _quantization(run)
    ingested = run.results["read-corpus"]
    duplicates = run.results["drop-duplicates"]
    retrieval = run.results["check-retrieval"]
    embedded = run.stages["embed"]
    figures = run.results["load-candidate"].metrics
    memory = psutil.virtual_memory().total / 2**30
    return RunReport(
        project=run.policy.path.parent.name,
        started=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started)),
        seconds=result.seconds,
        verdict=result.verdict,
        canary_end=result.canary,
        release=result.release,
        candidate=result.candidate,
        previous=result.previous,
        changes=changes_between(candidate, baseline),
        stages=tuple(StageLine(name=name, **row.model_dump()) for name, row in result.stages.items()),
        documents_read=int(ingested.metrics["documents"]),
        chunks_total=embedded.total,
        chunks_embedded=embedded.computed,
        quarantined=tuple(QuarantineLine(**row) for row in ingested.table),
        duplicates=tuple(DuplicateLine(**row) for row in duplicates.table),
        duplicates_dropped=int(duplicates.metrics["duplicates_dropped"]),
        retrieval=tuple(
            RetrievalLine(
                mode=row["mode"],
                cases=retrieval.total,
                metrics={name: value for name, value in row.items() if name != "mode"},
            )
            for row in retrieval.table
        ),
        metrics=_metrics(run),
        gates=_gates(run),
        canary=decision_of(run.ref("canary", "canary-report")) if "canary" in run.results else None,
        quantization=lines,
        quantization_why=why,
        benchmark=tuple(load_figure(name, value) for name, value in figures.items()),
        training_curve=tuple(run.results["finetune-adapter"].curve),
        asked=asked_lines(result.answers),
        costs=(*_costs(run, "production"), *_costs(run, "candidate")),
        machine={
            "cores": str(psutil.cpu_count()),
            "memory": f"{memory:.0f} GiB",
            "python": platform.python_version(),
            "system": platform.system(),
        },
        links=_links(run),
        simplified=SIMPLIFIED,
    )


def write_report(run: Recording, result: "NightResult", candidate: Release, baseline: Release) -> Path:
    """Write data and page (the page last: it says that the story was told), and show them in MLflow and Prefect."""
    report = build_report(run, result, candidate, baseline)
    page = report_page(result.candidate)
    write_atomic(page.with_suffix(".json"), report.model_dump_json(indent=1))
    write_page(report, page)
    told = {
        f"{line.metric}_{side}": interval.mean
        for line in report.metrics
        for side, interval in (("candidate", line.candidate), ("production", line.production))
        if interval
    }
    texts = {"result.json": result.model_dump_json(indent=1)}
    run.tracker.log(run.mlflow_run, metrics=told, files=[page], texts=texts)
    shown = f"{run.tracker.run_address(run.mlflow_run)}/artifacts/{page.name}"
    create_markdown_artifact(
        f"# {report.headline}\n\n[Report in MLflow]({shown}), on this machine `{page}`",
        key="night-report",
        description=report.headline,
    )
    return page
