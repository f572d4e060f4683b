"""The rows of measured rounds: arithmetic only."""

from collections.abc import Mapping, Sequence
from statistics import median

from evaluation.benches import BenchRow
from evaluation.benches.gatewaying.driving import Told
from infra.errors import SetupError

Round = Mapping[str, Told]
"""Target → what it showed in one round; `direct` is the upstream itself."""
SHORT = {"LiteLLM proxy": "litellm", "MLflow gateway": "mlflow"}
"""Peer → its name in rows."""


def _spread(name: str, unit: str, values: Sequence[float]) -> BenchRow:
    """Median over rounds with the lowest and highest."""
    return BenchRow(name=name, value=median(values), unit=unit, low=min(values), high=max(values))


def added_rows(rounds: Sequence[Round]) -> list[BenchRow]:
    """What our gateway adds to the upstream's own latency; streams and whole answers also by themselves."""
    rows = []
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        for kind, suffix in ((None, ""), (True, ", streamed"), (False, ", whole")):
            values = [one["ours"].quantile(share, kind) - one["direct"].quantile(share, kind) for one in rounds]
            rows.append(_spread(f"added_{name}_ms{suffix}", "ms", values))
    return sorted(rows, key=lambda row: "," in row.name)


def peer_rows(rounds: Sequence[Round], peer: str) -> list[BenchRow]:
    """Our latency by a peer's under the same load: median of the rounds' ratios with the lowest and highest.

    Raises: SetupError where requests of ours failed; those of a peer are told in its name.
    """
    if errors := [error for one in rounds for error in one["ours"].errors]:
        raise SetupError(f"bench gateway: {len(errors)} of our requests failed: {errors[0]}")
    failed = sum(len(one[peer].errors) for one in rounds)
    told = f"{peer}, {failed} requests failed" if failed else peer
    rows = []
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        pairs = [(one["ours"].quantile(share), one[peer].quantile(share)) for one in rounds]
        ratios = [ours / theirs for ours, theirs in pairs]
        rows.append(
            BenchRow(
                name=f"{name}_vs_{SHORT[peer]}",
                value=median(ours for ours, _ in pairs),
                unit="ms",
                peer=told,
                peer_value=median(theirs for _, theirs in pairs),
                ratio=median(ratios),
                low=min(ratios),
                high=max(ratios),
            )
        )
    return rows


def rate_row(peer: str, ours: float, theirs: float) -> BenchRow:
    """The largest rates within the limit."""
    name = f"rps_vs_{SHORT[peer]}"
    return BenchRow(name=name, value=ours, unit="requests/s", peer=peer, peer_value=theirs, ratio=ours / theirs)


def engine_row(name: str, pairs: Sequence[tuple[float, float]]) -> BenchRow:
    """Tokens a second through the gateway by those of the engine itself, over rounds (through, direct)."""
    ratios = sorted(through / direct for through, direct in pairs)
    return BenchRow(
        name=name,
        value=median(through for through, _ in pairs),
        unit="tokens/s",
        peer="vLLM itself",
        peer_value=median(direct for _, direct in pairs),
        ratio=median(ratios),
        low=ratios[0],
        high=ratios[-1],
    )
