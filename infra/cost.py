"""What answers cost: machine time at a stated price, shared among requests and among good answers."""

from pydantic import BaseModel, ConfigDict, Field

from infra.errors import InputError
from infra.settings import Spec

SECONDS_PER_HOUR = 3600.0


class TokenPrices(Spec):
    """What a million tokens cost; 0 where tokens are not charged."""

    prompt: float = Field(0.0, ge=0)
    """Of prompts."""
    cached: float = Field(0.0, ge=0)
    """Of the part of a prompt that the engine had read before."""
    completion: float = Field(0.0, ge=0)
    """Of answers."""

    def of(self, prompt: float, cached: float, completion: float) -> float:
        """Price of so many tokens; `cached` are among those of the prompt."""
        return ((prompt - cached) * self.prompt + cached * self.cached + completion * self.completion) / 1_000_000


class CostSpec(Spec):
    """Price of the machine; section `cost` of the policy file."""

    price_per_machine_hour: float = Field(ge=0)
    """What one hour of the machine costs, in `currency`."""
    currency: str = Field("EUR", min_length=1, max_length=8)
    """Name of the unit, for reports."""
    tokens: TokenPrices = TokenPrices()
    """What the gateway reckons for the tokens of a request; the money limits of keys go by it."""


class Cost(BaseModel):
    """Cost of a piece of work. Amounts in the spec's currency; None where there is nothing to divide by."""

    model_config = ConfigDict(frozen=True)

    machine_seconds: float
    total: float
    requests: int
    good_answers: int
    per_request: float | None
    per_good_answer: float | None
    """Rises when a cheaper release answers worse: the number to compare releases by."""
    currency: str


def cost(spec: CostSpec, machine_seconds: float, requests: int, good_answers: int) -> Cost:
    """Share `machine_seconds` of one machine among requests and among the good answers in them.

    Raises: InputError for negative amounts or more good answers than requests.
    """
    if machine_seconds < 0 or requests < 0 or not 0 <= good_answers <= requests:
        raise InputError(f"cost of {machine_seconds} s, {requests} requests, {good_answers} good: impossible numbers")
    total = spec.price_per_machine_hour * machine_seconds / SECONDS_PER_HOUR
    return Cost(
        machine_seconds=machine_seconds,
        total=total,
        requests=requests,
        good_answers=good_answers,
        per_request=total / requests if requests else None,
        per_good_answer=total / good_answers if good_answers else None,
        currency=spec.currency,
    )


def request_cost(latency_ms: float, spec: CostSpec) -> float:
    """Cost of one request that had the machine for itself for `latency_ms`: an upper bound where requests share it."""
    return spec.price_per_machine_hour * latency_ms / 1000 / SECONDS_PER_HOUR
