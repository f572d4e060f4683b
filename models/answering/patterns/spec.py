"""How much the patterns may do that ask the model: section `answering.patterns`, part of every release.

Their prompts are constants beside the strategies: they are code, so they change with the version of the code that a
release names, and not with the prompt of its answers.
"""

from typing import Literal

from pydantic import Field, model_validator

from infra.settings import Spec


class ListwiseSpec(Spec):
    """Reranking by the model, which reads a window of passages and says their order."""

    passages: int = Field(10, ge=2, le=100)
    """Best passages that are put in order; those below keep their place."""
    window: int = Field(5, ge=2, le=20)
    """Passages that the model reads at once."""
    stride: int = Field(2, ge=1, le=20)
    """Passages by which the window moves up from the last to the first; below `window`."""

    @model_validator(mode="after")
    def _windows_overlap(self) -> "ListwiseSpec":
        if self.stride >= self.window:
            raise ValueError("stride must be below window, otherwise nothing rises from one window to the next")
        return self


class PatternSpec(Spec):
    """Bounds of the patterns that ask the model, and their choices."""

    max_tokens: int = Field(48, ge=1, le=1024)
    """Most tokens of one reply of the model."""
    token_budget: int = Field(4000, ge=0, le=1_000_000)
    """Most tokens that the model reads and writes along the way of one question, by the count of its own tokenizer
    without the marks of the chat template; a call that would go beyond is not made."""
    passage_chars: int = Field(400, ge=50, le=10_000)
    """Longest piece of a passage that the model reads along the way."""
    probe_chars: int = Field(400, ge=10, le=10_000)
    """Longest text of the model's that is searched with, or read as filters."""
    probe_weight: float = Field(1.0, gt=0, le=10)
    """What all texts of the model's count together in the fusion, beside 1 for the question."""
    variants: int = Field(3, ge=1, le=10)
    """Pattern multi-query: other wordings of the question."""
    filters_by: Literal["rule", "model"] = "rule"
    """Pattern self-query: who reads the filters from the question. What the model says is checked, and the rule takes
    the place of anything that is no filter."""
    min_passages: int = Field(3, ge=1, le=200)
    """Pattern self-query: a filter that leaves fewer passages (or fewer than `k`, where that is smaller) is dropped."""
    grade_by: Literal["words", "model"] = "words"
    """Pattern corrective: the share of the question's words that a passage holds, or the model's judgement of support
    (1 or 0)."""
    grade: float = Field(0.5, ge=0, le=1)
    """Pattern corrective: grade from which the first search is good enough."""
    graded: int = Field(3, ge=1, le=20)
    """Pattern corrective: best passages that are graded; the best of them counts."""
    shown: int = Field(3, ge=1, le=20)
    """Pattern agentic: best passages that the model reads at every step."""
    steps: int = Field(2, ge=1, le=10)
    """Pattern agentic: most further searches."""
    listwise: ListwiseSpec | None = None
    """Reranking by the model behind any pattern; null leaves the passages as they were found."""
