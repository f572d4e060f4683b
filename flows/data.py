"""`sluice check-data`: what a file of training data holds and what of it would be refused, without a training."""

from pathlib import Path
from typing import Any

from infra.settings import Policy, use_policy
from models.cases import HELD_BACK, CaseSpec, load_cases
from models.prompts import DEFAULT
from models.training.assembly import from_elsewhere
from models.training.contamination import HeldBack
from models.training.curation import curate
from models.training.data_spec import DataSpec
from models.training.files import FileLimits, FileSpec, gathered_from, read_training_file


def check_data(file: Path, policy_path: Path | None) -> dict[str, Any]:
    """Format, counts, and every refused row with its line and the reason; the policy names the cases held back.

    Raises InputError for a file that is missing, broken as a whole or without a usable row.
    """
    policy = Policy(use_policy(policy_path))
    spec = policy.section("training_data", DataSpec)
    known = load_cases(policy.section("cases", CaseSpec), policy.path.parent) if "cases" in policy.sections else []
    held = HeldBack([case for case in known if case.split in HELD_BACK], spec.curation.overlap)
    closed = {name for case in held.cases for name in case.documents}
    path = file.expanduser().resolve()
    limits = FileLimits(max_bad_share=1 - 1e-9, max_line_bytes=spec.file_limits.max_line_bytes)
    found = read_training_file(path, FileSpec(path=path.name), limits)
    gathered = gathered_from(found, path.name)
    kept, refused = curate([], from_elsewhere([gathered], DEFAULT), held, closed, spec.curation)
    return {
        "file": str(path),
        "format": found.format,
        "usable": len(kept),
        "bad": found.bad_count,
        "refused": len(refused),
        "lines": [
            {"line": int(one.source.rpartition(":")[2]), "why": one.kind, "reason": one.reason}
            for one in [*gathered.refused, *refused]
        ],
    }
