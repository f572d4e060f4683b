"""Puts a dataset together: rows by rule and rows from elsewhere, curated, and split by source document."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from models.prompts import Prompt
from models.training.contamination import HeldBack, plain
from models.training.curation import Candidate, Refused, Split, candidate, curate
from models.training.data import RowMaker
from models.training.data_spec import DataSpec
from models.training.dataset import Dataset
from models.training.formats import Row
from models.training.gathered import Gathered
from models.training.pairs import pairs_by_rule
from models.training.rows import PreferenceRow, TrainingRow
from models.types import Case


class Assembled(NamedTuple):
    """A dataset, and what was refused on the way to it."""

    dataset: Dataset
    refused: list[Refused]


def split_of(spec: DataSpec) -> Split:
    """Which documents' rows are for early stopping."""
    return Split(spec.validation_share, spec.seed)


def rows_by_rule(maker: RowMaker, cases: Sequence[Case], closed: Collection[str], spec: DataSpec) -> list[Candidate]:
    """Rows and pairs of the train cases and of the corpus, made apart for each part of the split.

    A row may ask further questions on its passages: they are of documents of the same part.
    """
    split, share = split_of(spec), spec.validation_share
    made: list[Row] = []
    for validation in (False, True) if share else (False,):
        own = [case for case in cases if (split.part_of(_names(case)) == "validation") is validation]

        def allowed(document: str, validation: bool = validation) -> bool:
            return document not in closed and split.holds(document) is validation

        part = share if validation else 1 - share
        made += maker.of_cases(own)
        made += maker.of_corpus(allowed, part)
        made += pairs_by_rule(maker, own, allowed, round(part * spec.preference_pairs))
    documents = {f"case:{case.id}": case.documents for case in cases}
    documents |= {f"corpus:{chunk.id}": (chunk.document,) for chunk in maker.chunks}
    return _candidates(made, maker.prompt, documents)


def _names(case: Case) -> Iterable[str]:
    """What a case is made from, as Split.part sees its rows."""
    return case.documents or (plain(case.question),)


def from_elsewhere(gathered: Iterable[Gathered], prompt: Prompt) -> list[Candidate]:
    """The rows of files, feedback and a teacher, to be curated."""
    return [candidate(one.row, prompt, one.documents) for source in gathered for one in source.rows]


def _candidates(rows: Iterable[Row], prompt: Prompt, documents: Mapping[str, Iterable[str]]) -> list[Candidate]:
    """Rows to be curated; `documents` gives those that a row was made from by the row's source."""
    return [candidate(row, prompt, documents.get(row.source, ())) for row in rows]


def assemble(
    made: Sequence[Candidate],
    others: Sequence[Candidate],
    held_back: Sequence[Case],
    closed: Collection[str],
    spec: DataSpec,
) -> Assembled:
    """The dataset of rows by rule and rows from elsewhere, without those that curation refuses."""
    held = HeldBack(held_back, spec.curation.overlap)
    kept, refused = curate(made, others, held, closed, spec.curation)
    train, validation, torn = split_of(spec).apart(kept)
    dataset = Dataset(
        rows=[row.row for row in train if isinstance(row.row, TrainingRow)],
        validation=[row.row for row in validation if isinstance(row.row, TrainingRow)],
        pairs=[row.row for row in train if isinstance(row.row, PreferenceRow)],
        validation_pairs=[row.row for row in validation if isinstance(row.row, PreferenceRow)],
    )
    return Assembled(dataset, [*refused, *torn])


def counts_of(dataset: Dataset) -> dict[str, int]:
    """How many rows and pairs of each source there are, and how many refuse or are for early stopping."""
    every: list[Row] = [*dataset.rows, *dataset.validation, *dataset.pairs, *dataset.validation_pairs]
    origins = Counter(row.source.partition(":")[0] for row in every)
    return {
        "from_cases": origins["case"],
        "from_corpus": origins["corpus"],
        "from_files": origins["file"],
        "from_feedback": origins["feedback"],
        "from_teacher": origins["teacher"],
        "rows": len(dataset.rows),
        "validation_rows": len(dataset.validation),
        "pairs": len(dataset.pairs),
        "validation_pairs": len(dataset.validation_pairs),
        "refusals": sum(row.refusal for row in dataset.rows),
    }
