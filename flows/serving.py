"""Puts live releases onto engines and behind the gateway, for the command line."""

from pathlib import Path

from infra.processes import ProcessManager
from infra.settings import policy, settings
from models.release import Release
from models.serving.vllm import EngineSpec
from tasks.measuring import deployer
from tasks.releasing import production_release, records, release_of, serve


def serve_production(path: Path) -> str:
    """Engine and gateway for production and previous, so that a rollback is at once; a line saying what happened."""
    production = production_release()
    if production is None:
        return "no release yet: `sluice run nightly` makes the first one"
    previous = release_of(records().pointer("previous"))
    address = serve([production, *([previous] if previous else [])], policy().section("engine", EngineSpec), path)
    return f"release {production.digest[:12]} answers at {address}"


def make_live(release: Release) -> None:
    """An engine for a release that is about to become production, where a gateway serves callers now."""
    if ProcessManager(settings().home).alive("gateway") is None:
        return
    live = records()
    for digest, placement in deployer(policy().section("engine", EngineSpec)).ensure([release]).items():
        live.place(digest, placement.base_url, placement.model, placement.rows)
