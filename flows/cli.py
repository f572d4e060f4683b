"""The command `sluice`: servers up and down, flows, questions, releases, traces, reports and benchmarks."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows import cache_commands, commands, key_commands, model_commands
from flows.console import AsJson, clean, complain, err, out, show
from flows.printing import print_answer, print_json, print_result
from infra.settings import be_quiet

app = typer.Typer(name="sluice", no_args_is_help=True, add_completion=False, help="LLM operations with measured gates.")
releases = typer.Typer(no_args_is_help=True, help="Releases: what is live, what was, and how to go back.")
app.add_typer(releases, name="releases")
app.add_typer(key_commands.commands, name="key")
app.add_typer(model_commands.commands)
app.add_typer(cache_commands.commands)


class FlowName(StrEnum):
    """Flows that `sluice run` knows."""

    NIGHTLY = "nightly"
    INGEST = "ingest"
    INDEX = "index"
    FINETUNE = "finetune"
    DISTILL = "distill"
    QUANTIZE = "quantize"
    BENCHMARK = "benchmark"
    EVALUATE = "evaluate"
    RELEASE = "release"
    MONITOR = "monitor"
    TUNE = "tune"
    RERANK = "rerank"
    DIFFICULTY = "difficulty"


class WhenBusy(StrEnum):
    """What to do while another run works on the same state."""

    WAIT = "wait"
    LEAVE = "leave"


@app.command()
@clean
def up(json_: AsJson = False) -> None:
    """Start Prefect, MLflow, the runner of deployments, and, once a release is live, its engine and the gateway."""
    show(commands.up(lambda line: err.print(line, highlight=False)), json_, "started")


@app.command()
@clean
def down(json_: AsJson = False) -> None:
    """Stop every server that Sluice started here; requests in flight are finished first."""
    show({"stopped": commands.down()}, json_)


@app.command()
@clean
def status(json_: AsJson = False) -> None:
    """What runs, on which port, and which release is live."""
    value = commands.status()
    if json_:
        print_json(value)
        return
    show(value["servers"], False, "servers")
    show({f"traces: {name.replace('_', ' ')}": count for name, count in value["traces"].items()}, False)
    show(value["pointers"] or {"production": "no release yet: run `sluice run nightly`"}, False)


@app.command()
@clean
def run(
    flow: Annotated[FlowName, typer.Argument(help="Which flow.")],
    policy: Annotated[Path | None, typer.Option(help="Policy file of the project; default SLUICE_POLICY.")] = None,
    when_busy: Annotated[
        WhenBusy | None, typer.Option(help="While another run works here; default: the policy's.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="index: measure every kind of vector index too.")] = False,
    against: Annotated[
        str, typer.Option(help="benchmark: an earlier report to compare with: a path or the begin of its digest.")
    ] = "",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change the policy for this run: section.field=value, repeatable.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Run a flow now, starting the servers that it needs and stopping those that it started."""
    result, code = commands.run_flow(
        flow.value,
        policy,
        when_busy.value if when_busy else None,
        live=None if json_ else out,
        compare=compare,
        against=against,
        overrides=overrides or (),
    )
    if json_:
        print_json(result)
    else:
        print_result(result, out)
    if "error" in result:
        complain(result["error"])
    raise typer.Exit(code)


@app.command()
@clean
def ask(question: str, session: str = "", json_: AsJson = False) -> None:
    """Ask the live release a question through the gateway."""
    reply = commands.ask(question, session)
    if json_:
        print_json(reply)
        return
    print_answer(reply, out)
    out.print(f"release {reply['release'][:12]}, trace {reply['trace_id']}, {reply['latency_ms']:.0f} ms", style="dim")


@app.command()
@clean
def explain(trace: str, json_: AsJson = False) -> None:
    """Walk from an answer back to its chunks, documents, prompt, model and gate report."""
    show(commands.explain_trace(trace), json_)


@app.command()
@clean
def report(json_: AsJson = False) -> None:
    """Path of the newest report page and its headline."""
    show(commands.newest_report(), json_)


@app.command()
@clean
def bench(name: str, write: bool = False, json_: AsJson = False) -> None:
    """Run one benchmark of evaluation/benches; --write appends it to docs/benchmarks.md."""
    show(commands.bench(name, write, None if json_ else out), json_, f"bench {name}")


@app.command()
@clean
def doctor(json_: AsJson = False) -> None:
    """Check this machine: versions, environments, disk, ports, optional services."""
    checks, fit = commands.doctor()
    show(checks, json_, "checks")
    raise typer.Exit(0 if fit else 1)


@releases.command("list")
@clean
def releases_list(json_: AsJson = False) -> None:
    """Every release, newest first."""
    show(commands.list_releases(), json_, "releases")


@releases.command("show")
@clean
def releasesshow(digest: str, json_: AsJson = False) -> None:
    """One release: its parts and its gate report."""
    show(commands.show_release(digest), json_)


@releases.command("diff")
@clean
def releases_diff(left: str, right: str, json_: AsJson = False) -> None:
    """The parts in which two releases differ."""
    show(commands.diff_releases(left, right), json_, "differences")


@releases.command("promote")
@clean
def releases_promote(digest: str, json_: AsJson = False) -> None:
    """Make a release live that passed the gate and whose canary was held for a person to decide."""
    show(commands.promote(digest), json_)


@releases.command("rollback")
@clean
def releases_rollback(reason: str = "by hand", json_: AsJson = False) -> None:
    """Go back to the previous release: one pointer move."""
    show(commands.rollback(reason), json_)


@clean
def main() -> None:
    """Entry point of the command."""
    be_quiet()
    app()


if __name__ == "__main__":
    main()
