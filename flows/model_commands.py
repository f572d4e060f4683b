"""Commands of `sluice` around models: memory, training data, loads compared, advice, build or buy."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows import planning
from flows.commands import compare_loads as compare_reports
from flows.console import AsJson, clean, out, show
from flows.printing import print_advice, print_break_even, print_json, print_plan, print_result
from infra.errors import InputError

commands = typer.Typer()


class Profile(StrEnum):
    """Values of the gate's rules."""

    SAMPLE = "sample"
    PRODUCTION = "production"


@commands.command("compare-loads")
@clean
def compare_loads(
    before: Annotated[str, typer.Argument(help="Report of a load: a path, or the begin of its digest.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    picture: Annotated[Path | None, typer.Option(help="Write the ratios as SVG here.")] = None,
    json_: AsJson = False,
) -> None:
    """Two runs of the benchmark side by side: ratios of throughput and percentiles with 95 % intervals."""
    told = compare_reports(before, after, picture)
    if json_:
        print_json(told)
    else:
        print_result(told, out)


@commands.command("plan-memory")
@clean
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
        show({"cache = requests × tokens × layers × 2 × width × bytes": told["example"]}, False)
        show(told["table"], False, "weights in gigabytes, and the fewest cards that hold them")
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


@commands.command("check-data")
@clean
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
        show({name: value for name, value in told.items() if name != "lines"}, False)
        if told["lines"]:
            show(told["lines"], False, "refused rows")
    raise typer.Exit(1 if told["lines"] else 0)


@commands.command()
@clean
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


@commands.command("break-even")
@clean
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
