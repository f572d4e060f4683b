"""What a threshold of similarity holds for: one encoder and one set of vetoes."""

from functools import lru_cache

from infra.store import code_version, value_digest


@lru_cache(maxsize=8)
def calibration_of(encoder: str) -> str:
    """Names the encoder and the vetoes together: a threshold that was found with others says nothing."""
    return value_digest([encoder, code_version("models/serving/cache/vetoes.py", "models/serving/cache/words.py")])[:32]
