"""Our gateway for the bench, as a process: everything real on the path of `sluice-chat`, its engine an address.

Keys with limits, the policy's guards by rule (classifier and topics have rows of their own in the guards bench), traces
through the spool into records of its own. Only the index is missing: conversations do not search.
"""

import argparse
from pathlib import Path

from infra.cost import CostSpec
from infra.records import Placement, Records
from infra.settings import be_quiet, policy
from infra.spool import Spool
from models.answering.fake import FakeRetriever
from models.answering.guards.guardrails import Guards, personal_data
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import AnswerSpec, Pipeline
from models.prompts import DEFAULT
from models.serving.answerer import GatewaySpec
from models.serving.gateway import create_app, listen, run_app, settle
from models.serving.routes import Engines, places_of
from models.serving.runtime import Runtime

RELEASE = "b" * 64
KEY = "bench-key"
LIMITS = {"requests_per_minute": 10_000_000, "tokens_per_minute": 10_000_000_000, "money_per_day": 1e9}
ROOM = {"max_in_flight": 256, "max_queued": 2000}
"""What the sample's policy sets for its small model would send the load away."""


def serve(port: int, upstream: str, model: str, home: Path) -> None:
    """Serve until SIGTERM."""
    rules = policy()
    guards = rules.section("guards", GuardPolicy).model_copy(update={"question_classifier": "off", "topics": None})
    spec = rules.section("gateway", GatewaySpec).model_copy(update=ROOM)
    answering = rules.section("answering", AnswerSpec)
    records = Records.open(f"sqlite:///{home / 'records.sqlite'}")
    records.add_key(KEY, "bench", "user", ["public"], limits=LIMITS)
    records.place(RELEASE, upstream, model)
    records.promote(RELEASE, None)

    engines = Engines(spec=spec.breaker)

    def build(release: str, placement: Placement) -> Pipeline:
        return Pipeline(
            release=release,
            retriever=FakeRetriever([]),
            engine=engines.chain(places_of(placement), answering.generation.timeout_s),
            model=placement.model,
            prompt=DEFAULT,
            guards=Guards(guards),
            spec=answering,
            count_tokens=lambda text: len(text.split()),
        )

    prices = rules.section("cost", CostSpec).tokens
    redact, spool = personal_data(guards).redact, Spool(home / "spool")
    app = create_app(
        records, Runtime(build), spec, redact, prices=prices, spool=spool, collectors=[engines], built=settle
    )
    run_app(app, spec, listen("127.0.0.1", port))
    records.close()


def main() -> None:
    """Command line of the process."""
    parser = argparse.ArgumentParser(description="The gateway on an engine's address")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()
    be_quiet()
    serve(given.port, given.upstream, given.model, given.home)


if __name__ == "__main__":
    main()
