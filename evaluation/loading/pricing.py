"""What requests and tokens of a load cost at a price per machine-hour."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from evaluation.load import Figures, LoadReport
from evaluation.loading.search import SearchResult
from infra.cost import CostSpec, cost


class LoadCost(BaseModel):
    """Shares of the machine's time at this load; None where there is nothing to divide by."""

    model_config = ConfigDict(frozen=True)

    per_request: float | None
    """Of a request without error."""
    per_good_request: float | None
    """Of a request within the SLO; None without one."""
    per_1k_tokens: float | None
    """Of 1,000 tokens, those of the prompt and those of the answer alike."""
    per_1k_output_tokens: float | None
    """Of 1,000 tokens of answers: the prompts' share is in it."""
    currency: str


def load_cost(spec: CostSpec, figures: Figures, seconds: float) -> LoadCost:
    """The load had one machine for itself for `seconds`: its price is shared among what came out of them.

    Idle time between requests is in it, so an open loop far below the limit is dear; the cheapest figure is that of
    the largest load within the SLO. Failed requests share nothing but their time is paid.
    """
    fine = figures.e2e_ms.n if figures.e2e_ms else 0
    good = round((figures.good_share or 0) * figures.requests)
    told = cost(spec, seconds, fine, min(good, fine))
    tokens = figures.prompt_tokens + figures.completion_tokens

    def share(count: int) -> float | None:
        return 1000 * told.total / count if count else None

    return LoadCost(
        per_request=told.per_request,
        per_good_request=None if figures.good_share is None else told.per_good_answer,
        per_1k_tokens=share(tokens),
        per_1k_output_tokens=share(figures.completion_tokens),
        currency=spec.currency,
    )


def costs_of(loads: Mapping[str, LoadReport], searches: Sequence[SearchResult], spec: CostSpec) -> dict[str, LoadCost]:
    """Costs of each load under its name, and of the best step of each search (`largest closed`)."""
    best = {f"largest {search.mode}": step.report for search in searches if (step := search.best_step) and step.report}
    return {name: load_cost(spec, report, report.seconds) for name, report in {**loads, **best}.items()}
