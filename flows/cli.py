"""The command `sluice`: servers up and down, flows, questions, releases, traces, reports and benchmarks."""

import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape

from flows import commands, planning
from flows.printing import (
    print_advice,
    print_answer,
    print_break_even,
    print_json,
    print_plan,
    print_result,
    print_value,
)
from infra.errors import InputError, SluiceError
from infra.settings import be_quiet

P = ParamSpec("P")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

app = typer.Typer(name="sluice", no_args_is_help=True, add_completion=False, help="LLM operations with measured gates.")
releases = typer.Typer(no_args_is_help=True, help="Releases: what is live, what was, and how to go back.")
app.add_typer(releases, name="releases")
out = Console()
err = Console(stderr=True)


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


class Profile(StrEnum):
    """Values of the gate's rules."""

    SAMPLE = "sample"
    PRODUCTION = "production"


class WhenBusy(StrEnum):
    """What to do while another run works on the same state."""

    WAIT = "wait"
    LEAVE = "leave"


def _complain(message: str) -> None:
    err.print(f"[bold red]sluice:[/] {escape(message)}", highlight=False, soft_wrap=True)


def _clean(function: Callable[P, None]) -> Callable[P, None]:
    """Errors that Sluice raises on purpose become one line and their exit code; with --json an object as well."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except SluiceError as error:
            _complain(str(error))
            if kwargs.get("json_"):
                print_json({"error": str(error)})
            sys.exit(error.exit_code)

    return call


def _show(value: Any, as_json: bool, title: str = "") -> None:
    """A value as JSON, or as a table for people."""
    if as_json:
        print_json(value)
    else:
        print_value(value, title, out)


@app.command()
@_clean
def up(json_: AsJson = False) -> None:
    """Start Prefect, MLflow, the runner of deployments, and, once a release is live, its engine and the gateway."""
    _show(commands.up(lambda line: err.print(line, highlight=False)), json_, "started")


@app.command()
@_clean
def down(json_: AsJson = False) -> None:
    """Stop every server that Sluice started here; requests in flight are finished first."""
    _show({"stopped": commands.down()}, json_)


@app.command()
@_clean
def status(json_: AsJson = False) -> None:
    """What runs, on which port, and which release is live."""
    value = commands.status()
    if json_:
        print_json(value)
        return
    _show(value["servers"], False, "servers")
    _show(value["pointers"] or {"production": "no release yet: run `sluice run nightly`"}, False)


@app.command()
@_clean
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
        _complain(result["error"])
    raise typer.Exit(code)


@app.command()
@_clean
def ask(question: str, session: str = "", json_: AsJson = False) -> None:
    """Ask the live release a question through the gateway."""
    reply = commands.ask(question, session)
    if json_:
        print_json(reply)
        return
    print_answer(reply, out)
    out.print(f"release {reply['release'][:12]}, trace {reply['trace_id']}, {reply['latency_ms']:.0f} ms", style="dim")


@app.command()
@_clean
def explain(trace: str, json_: AsJson = False) -> None:
    """Walk from an answer back to its chunks, documents, prompt, model and gate report."""
    _show(commands.explain_trace(trace), json_)


@app.command()
@_clean
def report(json_: AsJson = False) -> None:
    """Path of the newest report page and its headline."""
    _show(commands.newest_report(), json_)


@app.command()
@_clean
def bench(name: str, write: bool = False, json_: AsJson = False) -> None:
    """Run one benchmark of evaluation/benches; --write appends it to docs/benchmarks.md."""
    _show(commands.bench(name, write, None if json_ else out), json_, f"bench {name}")


@app.command("compare-loads")
@_clean
def compare_loads(
    before: Annotated[str, typer.Argument(help="Report of a load: a path, or the begin of its digest.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    picture: Annotated[Path | None, typer.Option(help="Write the ratios as SVG here.")] = None,
    json_: AsJson = False,
) -> None:
    """Two runs of the benchmark side by side: ratios of throughput and percentiles with 95 % intervals."""
    told = commands.compare_loads(before, after, picture)
    if json_:
        print_json(told)
    else:
        print_result(told, out)


@app.command("plan-memory")
@_clean
def plan_memory(
    model: Annotated[str | None, typer.Option(help="Folder, config.json, Hugging Face id, or starter.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Name of a card, such as A100-80, or its memory: 24GiB.")] = None,
    context: Annotated[
        int | None, typer.Option(help="Longest prompt and answer together, in tokens; default 4,096 or the model's.")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Requests of that length at once.")] = 1,
    precision: Annotated[
        str,
        typer.Option("--precision", "--dtype", help="Weights: bf16, fp16, fp32, fp8, w8a8, w4a16, nf4, hqq4 to hqq1."),
    ] = "bf16",
    kv_dtype: Annotated[str, typer.Option(help="Cache: auto, bf16, fp16, fp32 or fp8.")] = "auto",
    tensor_parallel: Annotated[int, typer.Option(help="Cards that share every layer.")] = 1,
    block_size: Annotated[int, typer.Option(help="Tokens of a cache block; vLLM: 16 on CUDA, 128 on the CPU.")] = 16,
    utilization: Annotated[float, typer.Option(help="Share of the card that may be used.")] = 0.92,
    batched_tokens: Annotated[int, typer.Option(help="Tokens in one step of the engine.")] = 8192,
    steps_in_flight: Annotated[int, typer.Option(help="Steps under way at once; vLLM: 2 on CUDA, 1 on the CPU.")] = 2,
    lora_rank: Annotated[int, typer.Option(help="Highest rank of adapters; 0: none are served.")] = 0,
    max_loras: Annotated[int, typer.Option(help="Adapters in one batch.")] = 1,
    json_: AsJson = False,
) -> None:
    """Does a model fit a card? From config.json alone. Without --model: a worked example, and weights of 7B to 405B."""
    if model is None:
        told = planning.reference()
        if json_:
            print_json(told)
            return
        _show({"cache = requests × tokens × layers × 2 × width × bytes": told["example"]}, False)
        _show(told["table"], False, "weights in gigabytes, and the fewest cards that hold them")
        return
    if gpu is None:
        raise InputError("--gpu: name the card, such as A100-80, or its memory, such as 24GiB")
    told = planning.plan(
        model,
        gpu,
        context=context,
        concurrency=concurrency,
        precision=precision,
        kv_dtype=kv_dtype,
        tensor_parallel=tensor_parallel,
        block_size=block_size,
        utilization=utilization,
        batched_tokens=batched_tokens,
        steps_in_flight=steps_in_flight,
        lora_rank=lora_rank,
        max_loras=max_loras,
    )
    if json_:
        print_json(told)
    else:
        print_plan(told, out)


@app.command("check-data")
@_clean
def check_data(
    file: Annotated[Path, typer.Argument(help="A file of training data: JSON lines, a JSON list, CSV or Parquet.")],
    policy: Annotated[Path | None, typer.Option(help="Policy file with the cases that are held back.")] = None,
    json_: AsJson = False,
) -> None:
    """What a file of training data holds: its format, and every row that would be refused. Exit code 1 if there is."""
    from flows.data import check_data as check

    told = check(file, policy)
    if json_:
        print_json(told)
    else:
        _show({name: value for name, value in told.items() if name != "lines"}, False)
        if told["lines"]:
            _show(told["lines"], False, "refused rows")
    raise typer.Exit(1 if told["lines"] else 0)


@app.command()
@_clean
def advise(
    facts: Annotated[Path | None, typer.Option(help="JSON file of facts that hold before what is kept here.")] = None,
    release: Annotated[str, typer.Option(help="Alias or first digits; default: the newest one measured.")] = "",
    profile: Annotated[
        Profile | None, typer.Option(help="Values of the gate to hold against; default: the policy's.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """What to do next about a release, in order, with the figures behind it and what is not known."""
    from flows import advising  # evaluation takes a second to import

    told = advising.told(facts, release, profile.value if profile else None)
    if json_:
        print_json(told)
    else:
        print_advice(told, out)


@app.command("break-even")
@_clean
def break_even(
    tokens_per_month: Annotated[float, typer.Option(help="Tokens of prompts and answers together.")],
    api_price_in: Annotated[float, typer.Option(help="The API's price for a million tokens of prompts.")],
    api_price_out: Annotated[float, typer.Option(help="The API's price for a million tokens of answers.")],
    output_tokens_per_s: Annotated[
        float, typer.Option(help="Tokens of answers a second that one machine writes; `sluice run benchmark` measures.")
    ],
    machine_price: Annotated[
        float | None, typer.Option(help="Price of one machine for an hour; default: `cost` of the policy file.")
    ] = None,
    output_share: Annotated[float | None, typer.Option(help="Share of the tokens that are answers; 0.25.")] = None,
    utilization: Annotated[
        float | None, typer.Option(help="Share of a machine that a month makes use of; 0.4.")
    ] = None,
    fixed_per_month: Annotated[float | None, typer.Option(help="Engineering and on-call a month; 0.")] = None,
    spare_machines: Annotated[int | None, typer.Option(help="Machines that stand by; 0.")] = None,
    json_: AsJson = False,
) -> None:
    """Build or buy: own machines against an API by the token, and from which volume on."""
    from flows import advising

    told = advising.build_or_buy(
        tokens_per_month=tokens_per_month,
        api_price_in=api_price_in,
        api_price_out=api_price_out,
        output_tokens_per_s=output_tokens_per_s,
        machine_price=machine_price,
        output_share=output_share,
        utilization=utilization,
        fixed_per_month=fixed_per_month,
        spare_machines=spare_machines,
    )
    if json_:
        print_json(told)
    else:
        print_break_even(told, out)


@app.command()
@_clean
def doctor(json_: AsJson = False) -> None:
    """Check this machine: versions, environments, disk, ports, optional services."""
    checks, fit = commands.doctor()
    _show(checks, json_, "checks")
    raise typer.Exit(0 if fit else 1)


@releases.command("list")
@_clean
def releases_list(json_: AsJson = False) -> None:
    """Every release, newest first."""
    _show(commands.list_releases(), json_, "releases")


@releases.command("show")
@_clean
def releases_show(digest: str, json_: AsJson = False) -> None:
    """One release: its parts and its gate report."""
    _show(commands.show_release(digest), json_)


@releases.command("diff")
@_clean
def releases_diff(left: str, right: str, json_: AsJson = False) -> None:
    """The parts in which two releases differ."""
    _show(commands.diff_releases(left, right), json_, "differences")


@releases.command("promote")
@_clean
def releases_promote(digest: str, json_: AsJson = False) -> None:
    """Make a release live that passed the gate and whose canary was held for a person to decide."""
    _show(commands.promote(digest), json_)


@releases.command("rollback")
@_clean
def releases_rollback(reason: str = "by hand", json_: AsJson = False) -> None:
    """Go back to the previous release: one pointer move."""
    _show(commands.rollback(reason), json_)


@_clean
def main() -> None:
    """Entry point of the command."""
    be_quiet()
    app()


if __name__ == "__main__":
    main()
