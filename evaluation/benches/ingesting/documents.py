"""Documents made by rule: short markdown texts on invented things, the same for the same seed."""

import datetime
import random
from pathlib import Path

_FOLDER = 500
"""Files of one folder."""
_SYLLABLES = (
    "bar", "cal", "dor", "fen", "gil", "har", "jun", "kes", "lum", "mor", "nel", "pol", "ras", "sil", "tor", "wen",
)  # fmt: skip
_THINGS = (
    "permit", "meter", "ferry", "valve", "invoice", "berth", "pump", "licence", "survey", "tariff", "refund", "lease",
)  # fmt: skip
_ACTS = ("renews", "closes", "measures", "repairs", "inspects", "publishes", "returns", "approves", "stores", "checks")
_TIMES = (
    "every morning", "within nine days", "after the second notice", "before the season ends", "on working days",
)  # fmt: skip
_REASONS = (
    "because the old rule ended", "unless the office says otherwise", "so that nobody pays twice", "as the plan asks",
)  # fmt: skip


def write_documents(folder: Path, count: int, changed: float = 0.0) -> None:
    """Write documents 0 to count - 1, each of some 400 characters; a share `changed` of them has another text."""
    for number in range(count):
        other = number < changed * count
        path = folder / f"{number // _FOLDER:03}" / f"notice-{number:06}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document(number, 1 if other else 0), "utf-8")


def document(number: int, version: int = 0) -> str:
    """The text of one document, with its date in the front matter."""
    rng = random.Random(f"{number}/{version}")  # noqa: S311 - texts, not secrets
    day = datetime.date(2024, 1, 1) + datetime.timedelta(days=number % 700)
    place, person = _name(rng), _name(rng)
    body = " ".join(_sentence(rng, place, person) for _ in range(rng.randint(4, 6)))
    return f"---\ndate: {day}\n---\n# Notice {number} of {place}\n\n{body}\n"


def _name(rng: random.Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).capitalize()


def _sentence(rng: random.Random, place: str, person: str) -> str:
    who = rng.choice((f"The office of {place}", f"Inspector {person}", f"The {_name(rng)} company", "The council"))
    what = f"{rng.choice(_ACTS)} the {rng.choice(_THINGS)} {rng.randint(10, 9999)}"
    return f"{who} {what} {rng.choice(_TIMES)}, {rng.choice(_REASONS)}."
