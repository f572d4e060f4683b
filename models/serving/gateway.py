"""The gateway: questions in, guarded answers out, over an OpenAI-compatible and an own HTTP interface."""

import argparse
import asyncio
import gc
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache

from fastapi import FastAPI
from prometheus_client.registry import Collector

from indexes.types import Embedder
from infra.cost import CostSpec, TokenPrices
from infra.errors import SetupError, SluiceError, TryAgainError
from infra.logs import log_in_lines
from infra.records import ApiKey, Records
from infra.settings import be_quiet, policy, settings
from infra.spool import Spool
from models.answering.guards.guardrails import personal_data
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import AnswerSpec
from models.answering.tools.open import open_tools
from models.answering.tools.spec import ToolsSpec
from models.answering.tools.toolbox import Toolbox
from models.serving.answerer import Answerer, GatewaySpec
from models.serving.cache.redis_store import RedisStore
from models.serving.cache.spec import CacheSpec
from models.serving.cache.store import MemoryStore
from models.serving.endpoints import add_routes, handle_errors
from models.serving.entrance import Entrance
from models.serving.keys import caller as caller_of
from models.serving.limits import Ledger, OwnLedger
from models.serving.meter import Meter
from models.serving.openapi import describe
from models.serving.pages import add_pages
from models.serving.protocol import limited
from models.serving.redis_ledger import RedisLedger, SteadyLedger
from models.serving.response_headers import ResponseHeaders
from models.serving.routes import Engines
from models.serving.runtime import ReleaseBuilder, Runtime
from models.serving.writer import Redact

LOG = logging.getLogger("sluice.gateway")
THREAD_TURN_S = 0.0005
"""How long a thread that writes traces or reads the routing may keep requests waiting; Python's own figure is ten times
as much."""
GARBAGE = 70_000
"""Objects made and not yet gone that begin a garbage collection."""


async def _keep_warm(service: Answerer, stop: asyncio.Event, built: Callable[[], None]) -> None:
    """Read the routing before a request would have to wait for it, and build the pipelines that traffic may reach.

    What fails is tried again at the next look. `built` is called after new ones were built.
    """
    failed: dict[str, str] = {}
    known: list[str] = []
    while not stop.is_set():
        try:
            await service.routing.renew()
            routing = await service.routing.get()
            for release in routing.active:
                try:
                    await service.runtime.pipeline(release, routing.placements[release])
                    failed.pop(release, None)
                except SluiceError as error:
                    if failed.get(release) != str(error):
                        LOG.error("release %s cannot be served: %s", release[:12], error)
                    failed[release] = str(error)
            if routing.active != known:
                known = routing.active
                built()
        except TryAgainError as error:
            LOG.warning("records: %s", error)
        try:
            await asyncio.wait_for(stop.wait(), service.spec.routing_max_age_s / 2)
        except TimeoutError:
            continue


def create_app(
    records: Records,
    runtime: Runtime,
    spec: GatewaySpec,
    redact: Redact,
    *,
    prices: TokenPrices = TokenPrices(),  # noqa: B008  # frozen
    redis_url: str = "",
    spool: Spool | None = None,
    built: Callable[[], None] = lambda: None,
    tools: Toolbox | None = None,
    cache: CacheSpec | None = None,
    collectors: Sequence[Collector] = (),
) -> FastAPI:
    """The gateway over its parts. `redact` takes personal data out of everything that is written down.

    Limits of keys are counted in the Redis of `redis_url`, if there is one, and the answers of the cache lie there, or
    in this process; without `cache` none is kept. Traces go through `spool`; without one, through a temporary one that
    dies with the process. `collectors` are metrics that others keep. Its lifespan owns `runtime`, the trace writer and
    the spool: on shutdown traces are flushed and engine clients closed. `built` is called when pipelines were built.
    """
    kept = cache or CacheSpec()
    store = RedisStore(redis_url, kept) if redis_url else MemoryStore(kept)
    service = Answerer(records, runtime, spec, redact, prices, spool, tools, kept, store)
    for collector in collectors:
        service.metrics.registry.register(collector)
    ledger: Ledger = SteadyLedger(RedisLedger(redis_url), service.metrics.away.inc) if redis_url else OwnLedger()
    meter = Meter(ledger, spec.limits, spec.reserve_tokens, prices)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = asyncio.Event()
        warming = asyncio.create_task(_keep_warm(service, stop, built))
        yield
        stop.set()
        await warming
        await service.cache.close()
        await asyncio.to_thread(service.writer.close)
        await runtime.close()
        await ledger.close()

    async def find_caller(authorization: str) -> ApiKey | None:
        return caller_of(authorization, (await service.routing.get()).keys)

    app = FastAPI(
        title="Sluice gateway",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name.removeprefix("_"),
    )
    app.state.answerer = service
    app.add_middleware(
        Entrance,
        find_caller=find_caller,
        meter=meter,
        max_body_bytes=spec.max_body_bytes,
        max_depth=spec.http.max_json_depth,
        refused=lambda code: service.metrics.errors.labels(code).inc(),
        is_stopping=lambda: service.draining,
        retry_after_s=spec.retry_after_s,
    )
    app.add_middleware(ResponseHeaders)
    handle_errors(app, service)
    add_routes(app)
    add_pages(app)
    describe(app)
    return app


def _build(records: Records, engines: Engines) -> ReleaseBuilder:
    """The builder over this machine's store, embedders and engines."""
    from indexes.embedder import EmbedSpec, open_embedder
    from infra.s3 import open_store

    cached = lru_cache(maxsize=4)(open_embedder)
    default = policy().section("embedding", EmbedSpec)

    def embedder(spec: AnswerSpec) -> Embedder:
        return cached(spec.embedding or default)

    return ReleaseBuilder(records, open_store(settings().store_url, settings().home), embedder, engines)


def _tools(records: Records) -> Toolbox | None:
    """The tools that the policy names."""
    if "tools" not in policy().sections:
        return None
    return open_tools(policy().section("tools", ToolsSpec), policy().path.parent, records)


def _spool(spec: GatewaySpec, port: int) -> Spool:
    """Where the traces of the gateway on this port are safe until they are in the records."""
    most = None if spec.trace_spool_mib is None else int(spec.trace_spool_mib * 2**20)
    return Spool(settings().home / "spool" / f"gateway-{port}", most)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises SetupError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SetupError(f"gateway: {host}:{port}: {error.strerror}; free it or set SLUICE_GATEWAY_PORT") from error
    return listener


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT: then nothing new is taken, requests in flight are answered, traces are flushed."""
    listener = listen(host, port)
    spec = policy().section("gateway", GatewaySpec)
    redact = personal_data(policy().section("guards", GuardPolicy)).redact
    records = Records.open(settings().database_url)
    prices = policy().section("cost", CostSpec).tokens if "cost" in policy().sections else TokenPrices()
    redis_url = settings().redis_url.get_secret_value()
    spool = _spool(spec, port)
    engines = Engines(spec=spec.breaker, hosted=spec.hosted, key=settings().hosted_api_key.get_secret_value())
    app = create_app(
        records,
        Runtime(_build(records, engines)),
        spec,
        redact,
        prices=prices,
        redis_url=redis_url,
        spool=spool,
        tools=_tools(records),
        built=settle,
        collectors=[engines],
        cache=policy().section("cache", CacheSpec),
    )
    run_app(app, spec, listener)
    records.close()


def settle() -> None:
    """Spare what was loaded from garbage collection: it stays, and to look it all through stops every request. What a
    request makes goes when it ends, without a collection: one is made a hundred times less often than Python would.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def run_app(app: FastAPI, spec: GatewaySpec, listener: socket.socket) -> None:
    """Serve an app on a bound socket until SIGTERM or SIGINT, then drain it. Its lifespan ends with that."""
    import uvicorn

    from models.serving.draining import DrainingServer

    service: Answerer = app.state.answerer
    sys.setswitchinterval(THREAD_TURN_S)
    config = uvicorn.Config(
        app,
        http=limited(spec.http),
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=1,
        access_log=False,
    )
    server = DrainingServer(config, service.drain, notice_s=spec.stop_notice_s, longest_s=spec.request_timeout_s + 1)
    server.run(sockets=[listener])


def main() -> int:
    """Command line of the gateway's process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="models.serving.gateway", description=__doc__)
    parser.add_argument("--host", default=settings().host)
    parser.add_argument("--port", type=int, default=settings().gateway_port)
    given = parser.parse_args()
    log_in_lines(logging.INFO)
    be_quiet()
    try:
        serve(given.host, given.port)
    except SluiceError as error:
        LOG.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
