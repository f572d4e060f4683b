"""Bench: our gateway beside LiteLLM's proxy and MLflow's: latency added, largest rate, memory; then a real engine.

One run on one machine: every gateway on the same core, upstream and load on another. The first run installs the peers.
"""

from evaluation.benches import BenchRow
from evaluation.benches.gatewaying.measuring import PROGRESS, engine_rows, field, latency_rows, memory_row, rate_rows
from infra.settings import Settings


def run(settings: Settings) -> list[BenchRow]:
    """The rows. Raises: SetupError with one core, where a peer cannot be installed, or a request of ours failed."""
    with field(settings) as made:
        direct = made.start_upstream()
        ours = made.start_ours()
        PROGRESS.info("our gateway is up")
        peers = [made.start_litellm(), made.start_mlflow()]
        PROGRESS.info("the peers are up")
        pids = [made.pid(name) for name in ("ours", "litellm", "mlflow")]
        rows = latency_rows(direct, ours, peers, pids) + rate_rows(ours, peers, pids)
        for name in ("litellm", "mlflow"):
            made.manager.stop(name)
        rows.append(memory_row(ours, made.pid("ours")))
        made.manager.stop("ours")
        return rows + engine_rows(settings, made)
