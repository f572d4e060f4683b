"""How documents are cut: the policy section `chunking`."""

from typing import Literal

from pydantic import Field, model_validator

from infra.settings import Spec


class ChunkSpec(Spec):
    """How documents are cut."""

    max_tokens: int = Field(500, ge=8, le=8192)
    """Most tokens of a chunk's text, and of the parent or window that is shown in its place."""
    overlap_tokens: int = Field(0, ge=0)
    """Tokens of whole units that a chunk repeats from the end of the one before it in its section (recursive, fixed
    and the children of parent-child)."""
    strategy: Literal["recursive", "fixed", "semantic", "document", "parent-child", "sentence-window"] = "recursive"
    """How a text is cut. recursive: blocks, lines, sentences, joined up to the budget; fixed: windows of words;
    semantic: where the meaning of neighbouring sentences changes most; document: one chunk a section or page;
    parent-child: small chunks are matched and the larger ones around them are shown; sentence-window: sentences are
    matched and shown with their neighbours."""
    breakpoint_percentile: float = Field(95, ge=50, lt=100)
    """semantic: a section is cut where the distance of neighbouring sentences is above this percentile of its own."""
    child_tokens: int = Field(128, ge=8, le=4096)
    """parent-child: most tokens of a child; the parent has `max_tokens`."""
    window_sentences: int = Field(3, ge=1, le=20)
    """sentence-window: sentences shown on either side, as far as `max_tokens` allows."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ChunkSpec":
        if self.overlap_tokens * 2 > self.max_tokens:
            raise ValueError("overlap_tokens must be at most half of max_tokens")
        if self.strategy == "parent-child":
            if self.child_tokens * 2 > self.max_tokens:
                raise ValueError("child_tokens must be at most half of max_tokens")
            if self.overlap_tokens * 2 > self.child_tokens:
                raise ValueError("overlap_tokens must be at most half of child_tokens")
        return self

    @property
    def needs_embedder(self) -> bool:
        """Whether the strategy compares meanings."""
        return self.strategy == "semantic"
