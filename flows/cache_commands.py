"""`sluice calibrate-cache`: the threshold of the semantic cache from labelled pairs of questions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import AsJson, clean, show
from infra.errors import InputError
from infra.settings import policy

if TYPE_CHECKING:
    from evaluation.cache_calibration import Hits

commands = typer.Typer()


def calibrate_cache(file: Path, max_false_hit_rate: float) -> dict[str, Any]:
    """Threshold on the pairs of split `calibration`, and the fields of section `cache` that it stands for."""
    from evaluation.cache_calibration import calibrate
    from evaluation.question_pairs import judge, load_pairs
    from indexes.embedder import EmbedSpec, open_embedder
    from models.serving.cache.semantic import calibration_of

    if not 0 < max_false_hit_rate < 1:
        raise InputError(f"max-false-hit-rate: {max_false_hit_rate} is not between 0 and 1")
    pairs = [pair for pair in load_pairs(file) if pair.split in ("", "calibration")]
    embedder = open_embedder(policy().section("embedding", EmbedSpec))
    found = calibrate(judge(pairs, embedder), max_false_hit_rate)
    told: dict[str, Any] = {"pairs": len(pairs), "tried": [_row(one) for one in found.tried]}
    if found.chosen is None:
        best = min(one.high for one in found.tried)
        reason = f"{len(pairs)} pairs show a bound of {best:.3f} at best, not {max_false_hit_rate:g}"
        return told | {"semantic": None, "reason": f"{reason}: the semantic cache stays off; label more pairs"}
    proposed = {
        "threshold": found.chosen.threshold,
        "max_false_hit_rate": max_false_hit_rate,
        "calibrated_for": calibration_of(embedder.version),
    }
    return told | {
        "semantic": proposed,
        "bound": round(found.chosen.high, 4),
        "hit_rate": round(found.chosen.hit_rate, 4),
    }


def _row(one: "Hits") -> dict[str, Any]:
    return {
        "threshold": one.threshold,
        "hits": one.hits,
        "false": one.false,
        "bound": round(one.high, 4),
        "hit_rate": round(one.hit_rate, 4),
    }


@commands.command("calibrate-cache")
@clean
def calibrate_command(
    file: Annotated[Path, typer.Argument(help="JSONL of pairs: a, b, same; with a split, `calibration` is read.")],
    max_false_hit_rate: Annotated[float, typer.Option(help="Largest share of wrong answers among hits.")],
    json_: AsJson = False,
) -> None:
    """Find the threshold whose bound on false hits the pairs show; it goes into section `cache` of the policy file."""
    show(calibrate_cache(file, max_false_hit_rate), json_, "calibrate-cache")
