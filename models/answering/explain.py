"""What stands behind one answer: passages, documents, prompt, model, index and the gate report that let it live."""

import json
from typing import Any

from pydantic import ValidationError

from infra.errors import InputError
from infra.records import Records, Trace
from infra.store import ArtifactStore
from models.prompts import load_prompt
from models.release import Release

GATE_REPORT = "gate-report"
VERDICT = "verdict.json"


def _passages(trace: Trace) -> list[dict[str, Any]]:
    """Passages as numbered in the prompt, without their texts, and whether the answer cites them."""
    kept = ("number", "chunk", "document", "title")
    return [
        {name: passage[name] for name in kept} | {"cited": passage["number"] in trace.citations}
        for passage in trace.passages
    ]


def _gate(digest: str, store: ArtifactStore) -> dict[str, Any]:
    """The gate report's digest with its decision, as far as the store still has it."""
    ref = store.find(GATE_REPORT, digest) if digest else None
    if ref is None:
        return {"digest": digest, "decision": None}
    verdict = json.loads((store.open(ref) / VERDICT).read_text("utf-8"))
    return {"digest": digest, "decision": verdict["decision"], "first_release": verdict["first_release"]}


def explain(trace_id: str, records: Records, store: ArtifactStore) -> dict[str, Any]:
    """Everything behind the answer of this trace, by name and digest.

    Raises: InputError for a trace or release that the records do not hold.
    """
    trace = records.trace(trace_id)
    if trace is None:
        raise InputError(f"trace {trace_id!r}: not in the records; its id is `trace_id` of an answer")
    row = records.release(trace.release)
    if row is None:
        raise InputError(f"trace {trace_id}: its release {trace.release[:12]} is not registered here")
    try:
        release = Release.model_validate(row.release)
    except ValidationError as error:
        raise InputError(f"release {trace.release[:12]}: {error.errors()[0]['msg']}") from error
    prompt = load_prompt(release.prompt, store)
    model = release.model
    return {
        "trace_id": trace.trace_id,
        "created": trace.created,
        "question": trace.question,
        "answer": trace.answer,
        "refused": trace.refused,
        "error": trace.error,
        "arm": trace.arm,
        "release": trace.release,
        "chunks": _passages(trace),
        "documents": list(dict.fromkeys(passage["document"] for passage in trace.passages)),
        "prompt": {"id": prompt.id, "version": prompt.version, "digest": release.prompt.digest},
        "model": {
            "base": model.base.digest,
            "adapter": model.adapter.digest if model.adapter else None,
            "precision": model.precision,
            "parent": model.parent or None,
        },
        "routing": release.routing.content if release.routing else None,
        "index": release.index.digest,
        "judge": release.judge,
        "code": release.code,
        "gate_report": _gate(row.gate_report, store),
        "guards": trace.guards,
        "steps_ms": {span["name"]: round((span["end_ns"] - span["start_ns"]) / 1e6, 3) for span in trace.spans},
        "feedback": [
            {"rating": one.rating, "simulated": one.simulated, "reason": one.reason}
            for one in records.feedback(trace_id)
        ],
    }
