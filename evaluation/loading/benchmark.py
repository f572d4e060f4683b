"""Section `benchmark` of the policy file: loads, prompts, target and search; and the report of a whole run."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evaluation.load import LoadReport, LoadSpec
from evaluation.loading.pricing import LoadCost
from evaluation.loading.prompts import RandomSpec
from evaluation.loading.search import Mode, SearchResult, SearchSpec
from infra.settings import Spec

PromptKind = Literal["answers", "traffic", "questions", "random"]


class LoadTarget(Spec):
    """Any OpenAI-compatible server. Its key is the setting SLUICE_BENCHMARK_API_KEY."""

    url: str = Field(pattern=r"^https?://[^@\s]+$")
    """Root of the server, with or without `/v1`."""
    model: str = Field(min_length=1)
    """Name that it serves the model under."""


class BenchmarkSpec(LoadSpec):
    """The load of a night, as its own fields say, and what the flow `benchmark` does beyond it.

    A night puts the first load alone on its candidate, with the prompts behind the validation answers.
    """

    also: tuple[LoadSpec, ...] = ()
    """More loads of the flow `benchmark`. Where they name no slo or long_from_tokens, those above hold."""
    prompts: PromptKind = "answers"
    """answers: the prompts behind the candidate's validation answers. traffic: the questions of the traffic file
    through retrieval and prompt, as production sends them. questions: the same alone, without passages. random:
    texts of random lengths."""
    random: RandomSpec = RandomSpec()
    """Random prompts: how many, how long."""
    search: SearchSpec | None = None
    """Search for the largest load within the SLO; null: none."""
    endpoint: LoadTarget | None = None
    """Server that is loaded in place of the candidate's engine; nothing is trained then. null: the candidate's."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.search and not self.slo:
            raise ValueError("search needs slo: name limits, or leave the search out")
        if self.endpoint and self.prompts == "answers":
            raise ValueError("with an endpoint no candidate answers: prompts must be traffic, questions or random")
        return self

    @property
    def night(self) -> LoadSpec:
        """The load of a night: the first."""
        return LoadSpec(**{name: getattr(self, name) for name in LoadSpec.model_fields})

    @property
    def loads(self) -> dict[str, LoadSpec]:
        """Every load by its name; a second one of a name gets a number."""
        shared = {"slo": self.slo, "long_from_tokens": self.long_from_tokens}
        filled = [
            load.model_copy(update={name: getattr(load, name) or value for name, value in shared.items()})
            for load in self.also
        ]
        return _named([self.night, *filled])

    def searched(self, mode: Mode) -> LoadSpec:
        """What the steps of a search are made of: the first load of its kind, otherwise the first."""
        loads = list(self.loads.values())
        return next((load for load in loads if load.mode == mode), loads[0]).model_copy(update={"slo": self.slo})


def _named(loads: Iterable[LoadSpec]) -> dict[str, LoadSpec]:
    seen: Counter[str] = Counter()
    named = {}
    for load in loads:
        seen[load.name] += 1
        named[load.name if seen[load.name] == 1 else f"{load.name}-{seen[load.name]}"] = load
    return named


class BenchmarkReport(BaseModel):
    """A whole run: its loads with their raw timings, its searches, and what requests and tokens cost."""

    model_config = ConfigDict(frozen=True)

    target: str
    """Address and model, or the release whose engine it was."""
    prompts: str
    """What was asked: kind and number."""
    machine: str
    """The machine that the load came from."""
    loads: dict[str, LoadReport]
    searches: tuple[SearchResult, ...] = ()
    costs: dict[str, LoadCost] = Field(default_factory=dict)
    """Name of a load, or `largest closed` for the best step of a search → cost."""
