"""The engines that a gateway can send requests to: one client and one breaker an address, a chain a release."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import Field

from infra.errors import SetupError
from infra.records import Placement
from infra.settings import Spec
from models.answering.routing import ModelAt
from models.serving.breaker import Breaker, BreakerSpec, RetryBudget
from models.serving.engine import OpenAIEngine
from models.serving.fallback import Chain, Count, Link, Tally
from models.serving.pools import HOSTED, SMALL, Place, own
from models.types import Engine

NEVER = BreakerSpec(window_s=1, failures=10_000, share=1, open_s=1, retry_share=0, backoff_s=0)
"""Where the policy says nothing of breakers: none opens, and nothing is sent twice to one engine."""
STATES = {"closed": 0.0, "half-open": 0.5, "open": 1.0}


class HostedSpec(Spec):
    """A model that somebody else serves, asked when no own engine answers; `gateway.hosted` of the policy file.

    Prompts with passages go to that address. Its key is the setting SLUICE_HOSTED_API_KEY.
    """

    url: str = Field(pattern="^https?://")
    """OpenAI-compatible address, with or without /v1."""
    model: str = Field(min_length=1)
    """The model to ask for."""


OpenEngine = Callable[[str, float, str, str], Engine]
"""(server root, timeout in seconds, pool, key) → engine."""


def open_engine(base_url: str, timeout_s: float, pool: str, key: str) -> Engine:
    """The client of an engine over HTTP."""
    return OpenAIEngine(base_url, timeout_s, key, pool=pool)


def places_of(placement: Placement) -> list[Place]:
    """Where a release answers."""
    if placement.pools:
        return [Place.model_validate(place) for place in placement.pools]
    return [Place(base_url=placement.base_url, model=placement.model)]


class Engines(Collector):
    """Opens chains; a Prometheus collector of what its breakers and chains did."""

    def __init__(
        self,
        open_one: OpenEngine = open_engine,
        spec: BreakerSpec | None = None,
        hosted: HostedSpec | None = None,
        key: str = "",
    ) -> None:
        self._open = open_one
        self._spec = spec or NEVER
        self._hosted = hosted
        self._key = key
        self._clients: dict[tuple[str, float, str], Engine] = {}
        self._breakers: dict[str, Breaker] = {}
        self._budget = RetryBudget(spec.retry_share if spec else 0.0)
        self._tally = Tally()

    def chain(self, places: Sequence[Place], timeout_s: float, count: Count | None = None) -> Engine:
        """The engine over these places, those of a small model left out.

        `count` says how long a prompt is, where they are several.
        """
        return self._chain(own(places), (), timeout_s, count)

    def small(self, places: Sequence[Place], timeout_s: float, count: Count | None = None) -> ModelAt:
        """The small model of a release at these places, with an engine that asks the large one where it fails.

        Raises: SetupError where none of the places has a small model.
        """
        small = [place for place in places if place.pool == SMALL]
        if not small:
            raise SetupError("the release routes to a small model and is placed without one; start its engines again")
        return ModelAt(self._chain(small, own(places), timeout_s, count), small[0].model)

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        state = GaugeMetricFamily("sluice_breaker_state", "0 closed, 0.5 half-open, 1 open", labels=["address"])
        opened = CounterMetricFamily("sluice_breaker_opened", "How often a breaker opened", labels=["address"])
        for address, breaker in sorted(self._breakers.items()):
            state.add_metric([address], STATES[breaker.state])
            opened.add_metric([address], breaker.opened)
        failed = CounterMetricFamily("sluice_engine_failures", "Attempts that failed", labels=["pool"])
        fallen = CounterMetricFamily("sluice_engine_fallbacks", "Answers after another engine failed", labels=["pool"])
        for family, counts in ((failed, self._tally.failures), (fallen, self._tally.fallbacks)):
            for pool, number in sorted(counts.items()):
                family.add_metric([pool], number)
        return (
            state,
            opened,
            failed,
            fallen,
            CounterMetricFamily("sluice_engine_retries", "Requests sent to the same engine again", self._tally.retries),
        )

    def _chain(self, first: Sequence[Place], then: Sequence[Place], timeout_s: float, count: Count | None) -> Engine:
        links, behind = ([self._link(place, timeout_s) for place in places] for places in (first, then))
        hosted = self._last(timeout_s)
        return Chain(links, self._spec, self._budget, self._tally, then=behind, hosted=hosted, count=count)

    def _link(self, place: Place, timeout_s: float, key: str = "") -> Link:
        if place.base_url not in self._breakers:
            self._breakers[place.base_url] = Breaker(self._spec)
        return Link(place, self._client(place.base_url, timeout_s, place.pool, key), self._breakers[place.base_url])

    def _last(self, timeout_s: float) -> Link | None:
        if self._hosted is None:
            return None
        place = Place(pool=HOSTED, base_url=self._hosted.url.rstrip("/").removesuffix("/v1"), model=self._hosted.model)
        return self._link(place, timeout_s, self._key)

    def _client(self, base_url: str, timeout_s: float, pool: str, key: str = "") -> Engine:
        name = (base_url, timeout_s, pool)
        if name not in self._clients:
            self._clients[name] = self._open(base_url, timeout_s, pool, key)
        return self._clients[name]
