"""`sluice advise`: what records, store and reports know of a release goes down the decision path."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evaluation.advice import Advice, AdvicePolicy
from evaluation.break_even import BreakEvenSpec, break_even
from evaluation.decision_path import advise
from evaluation.facts import Facts, Figure, PrecisionFact, RoutingFact, Step, answer_facts, rule_facts
from evaluation.gate import GatePolicy, Profile
from evaluation.routing import RoutingReport
from evaluation.run_report import RunReport
from evaluation.types import Interval, Observation, Score, Verdict
from infra.cost import CostSpec
from infra.errors import InputError
from infra.records import Records, ReleaseRecord
from infra.s3 import open_store
from infra.settings import Policy, settings
from infra.store import ArtifactStore, LocalStore, read_lines, write_atomic
from models.quantizing.spec import QuantSpec
from models.release import Release
from models.training.dataset import PAIRS, ROWS


def routing_file() -> Path:
    """Where the newest measure of routing is kept for the advice."""
    return settings().home / "advice" / "routing.json"


def keep_routing(report: RoutingReport) -> None:
    """Keep what a difficulty classifier was worth, for later advice."""
    chosen = report.chosen
    is_routed = report.threshold is not None
    fact = RoutingFact(
        share=chosen.share if is_routed else 0.0, saved=chosen.saved if is_routed else 0.0, detail=report.reasons[0]
    )
    write_atomic(routing_file(), fact.model_dump_json())


def gather(policy: AdvicePolicy, gate: GatePolicy, wanted: str = "") -> Facts:
    """What the state folder knows of a release: an alias, the first digits of a digest, or the newest one measured.

    Raises InputError for a name that fits none or several.
    """
    records, store = Records.open(settings().database_url), open_store(settings().store_url, settings().home)
    rows = records.releases()
    row = _release(rows, records.pointers().get(wanted, wanted))
    known: dict[str, Any] = _rows_at_hand(store)
    if routing_file().is_file():
        known["routing"] = RoutingFact.model_validate_json(routing_file().read_text("utf-8"))
    if row is None:
        return Facts(**known)
    release = Release.model_validate(row.release)
    known |= {"release": row.digest, "tried": frozenset(_tried(release, rows))}
    if precisions := _precisions(row.digest, release):
        known["precisions"] = precisions
    return Facts(**known).over(_measured(row, store, policy, gate))


def _release(rows: list[ReleaseRecord], wanted: str) -> ReleaseRecord | None:
    if not wanted:
        return next((row for row in rows if row.gate_report), None)
    found = [row for row in rows if row.digest.startswith(wanted)]
    if len(found) != 1:
        raise InputError(f"release {wanted!r}: {len(found)} match; see `sluice releases list`")
    return found[0]


def _measured(row: ReleaseRecord, store: ArtifactStore, policy: AdvicePolicy, gate: GatePolicy) -> Facts:
    """The gate's reasons, and what the answers behind them say."""
    report = store.find("gate-report", row.gate_report) if row.gate_report else None
    if report is None:
        return Facts()
    folder = store.open(report)
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text("utf-8"))
    mine = Facts(rules=rule_facts(verdict.reasons))
    behind = folder / "behind.json"
    if not behind.is_file():
        return mine
    names = json.loads(behind.read_text("utf-8"))
    answers, scores = store.find("observations", names["observations"]), store.find("scores", names["scores"])
    if answers is None or scores is None:
        return mine
    observations = list(read_lines(store.open(answers) / "observations.jsonl", Observation))
    rated = list(read_lines(store.open(scores) / "scores.jsonl", Score))
    return mine.over(answer_facts(observations, rated, gate, policy.pattern_wrong))


def _tried(release: Release, rows: list[ReleaseRecord]) -> set[Step]:
    """Retrieval stands in every release; a prompt was tried once releases differ in it."""
    tried = {Step.RAG}
    if len({row.release["prompt"]["digest"] for row in rows}) > 1:
        tried.add(Step.PROMPT)
    if release.model.adapter is not None or release.model.parent:
        tried.add(Step.FINE_TUNE)
    return tried


def _precisions(digest: str, release: Release) -> tuple[PrecisionFact, ...]:
    """The quantization table of the night that made this release; empty without one."""
    path = settings().home / "reports" / f"{digest[:16]}.json"
    if not path.is_file():
        return ()
    lines = RunReport.model_validate_json(path.read_text("utf-8")).quantization
    return tuple(
        PrecisionFact(
            precision=line.precision,
            difference=_figure(line.difference),
            is_served=line.precision == release.model.precision,
        )
        for line in lines
    )


def _figure(interval: Interval | None) -> Figure | None:
    return Figure(value=interval.mean, low=interval.low, high=interval.high, n=interval.n) if interval else None


def _rows_at_hand(store: ArtifactStore) -> dict[str, int]:
    """Rows and pairs of the newest dataset. A bucket cannot say which one that is: nothing."""
    if not isinstance(store, LocalStore):
        return {}
    found = sorted((store.root / "dataset").glob("*/files"), key=lambda path: path.stat().st_mtime)
    if not found:
        return {}
    counts = {"rows": found[-1] / ROWS, "pairs": found[-1] / PAIRS}
    return {name: sum(1 for _ in path.open("rb")) for name, path in counts.items() if path.is_file()}


def read_facts(path: Path) -> Facts:
    """Facts from a JSON file. Raises InputError naming the field."""
    try:
        return Facts.model_validate_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--facts {path}: cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"--facts {path}: {place}: {first['msg']}") from error


def told(facts: Path | None = None, release: str = "", profile: Profile | None = None) -> dict[str, Any]:
    """The advice as plain values, with the gate's profile and the facts, which may be changed and given back."""
    given, known, held = advice(facts, release, profile)
    plain = known.model_dump(mode="json", exclude_none=True)
    return {"profile": held, **given.model_dump(mode="json"), "facts": plain}


def advice(
    facts: Path | None = None, release: str = "", profile: Profile | None = None
) -> tuple[Advice, Facts, Profile]:
    """The advice, the facts it stands on and the profile of the gate; `facts` holds before what was gathered."""
    file = Policy(settings().policy)
    gate, policy = file.section("gate", GatePolicy), file.section("advice", AdvicePolicy)
    margin = file.section("quantization", QuantSpec).margin if "quantization" in file.sections else None
    known = gather(policy, gate, release)
    if facts is not None:
        given = read_facts(facts)
        unknown = sorted(set(given.rules) - {rule.label for rule in gate.rules})
        if unknown:
            labels = "; ".join(rule.label for rule in gate.rules)
            raise InputError(f"--facts {facts}: rules: the gate has no rule {unknown[0]!r}, it has: {labels}")
        known = given.over(known)
    if profile is not None and profile != gate.profile:
        gate = gate.model_copy(update={"profile": profile})
        known = _undecided(known)
    return advise(known, policy, gate, margin), known, gate.profile


def _undecided(facts: Facts) -> Facts:
    """The figures without the gate's decisions, to be held against the values of another profile."""
    bare = {"decision": None, "threshold": None, "detail": ""}
    rules = {name: fact.model_copy(update=bare) for name, fact in facts.rules.items()}
    return facts.model_copy(update={"rules": rules})


def build_or_buy(**asked: Any) -> dict[str, Any]:
    """Both monthly costs and where they cross. Options that are None take the policy's or the spec's value.

    Raises InputError for a wrong option.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    if "machine_price" not in given:
        given["machine_price"] = Policy(settings().policy).section("cost", CostSpec).price_per_machine_hour
    try:
        told = break_even(BreakEvenSpec(**given))
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise InputError(f"{option}: {first['msg']} (got {first.get('input')!r})") from error
    return {"build": told.is_build, **told.model_dump(mode="json")}
