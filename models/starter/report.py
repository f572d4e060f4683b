"""Measure the starter model on held-out generated tasks and write its card.

    python -m models.starter.report --weights models/starter/weights

Decoding is greedy, in batches. Seeds are apart from training; the second set also has sentences and questions whose
wording no training run has seen. The part of the card between the `cases` marks is another evaluation's and is kept.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any, cast

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as hf_logging

from models.starter import network, reading, sentences, tokenizer, unseen

FIRST_SEED = 2 * 10**15
CASES = ("<!-- cases: begin -->", "<!-- cases: end -->")
NEW_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Observation:
    """One prompt with its gold reply and the model's; `source` is the task set, `passages` their number."""

    source: str
    kind: str
    passages: int
    prompt: str
    gold: str
    output: str

    @property
    def exact(self) -> bool:
        return self.output == self.gold

    @property
    def span_right(self) -> bool:
        """The answer is right whatever is cited."""
        return uncited(self.output) == uncited(self.gold)

    @property
    def citation_right(self) -> bool:
        return cited(self.output) == cited(self.gold)


def cited(reply: str) -> list[int]:
    """The passage numbers cited, in order."""
    return [int(number) for number in re.findall(r"\[(\d+)\]", reply)]


def uncited(reply: str) -> str:
    """The reply without its citations."""
    return re.sub(r"\s*\[\d+\]", "", reply).strip()


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion."""
    if not total:
        return 0.0, 1.0
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return middle - half, middle + half


@dataclass(frozen=True, slots=True)
class TaskSet:
    """A kind of held-out task: `long` pages or short ones, sentence patterns of its own, its share of `--per-count`."""

    source: str
    about: str
    long: bool
    lines: Sequence[sentences.Line]
    share: float


TASK_SETS = (
    TaskSet("short", "Short pages, wording known from training, fresh facts", False, (), 1.0),
    TaskSet("long", "Long pages, wording known from training, fresh facts", True, (), 0.4),
    TaskSet(
        "unseen", "Short pages, sentences and questions whose wording was never trained on", False, unseen.PARSED, 0.4
    ),
)


def tasks(per_count: int, group: TaskSet) -> list[reading.Example]:
    """One-question tasks, `per_count` for each number of passages from 1 to 5."""
    chosen: dict[int, list[reading.Example]] = {number: [] for number in range(1, 6)}
    seed = FIRST_SEED + 10**12 * TASK_SETS.index(group)
    while any(len(made) < per_count for made in chosen.values()):
        made = reading.example(seed, long=float(group.long), turns=1, lines=group.lines)
        seed += 1
        if len(chosen[len(made.passages)]) < per_count:
            chosen[len(made.passages)].append(made)
    return [made for examples in chosen.values() for made in examples]


@torch.no_grad()
def replies(model: LlamaForCausalLM, coder: PreTrainedTokenizerFast, prompts: list[str], batch: int = 24) -> list[str]:
    """Greedy replies to rendered prompts, in their order; prompts of like length share a batch."""
    out = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch):
        group = order[start : start + batch]
        inputs = coder([prompts[index] for index in group], return_tensors="pt", padding=True, add_special_tokens=False)
        made = cast(Any, model).generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
        for index, ids in zip(group, made[:, inputs["input_ids"].shape[1] :], strict=True):
            out[index] = str(coder.decode(ids, skip_special_tokens=True))
    return out


def observe(weights: Path, per_count: int) -> list[Observation]:
    """Replies of the exported model to both task sets."""
    coder = tokenizer.load(weights)
    model = LlamaForCausalLM.from_pretrained(weights, dtype=torch.float32)
    model.eval()
    found = []
    for group in TASK_SETS:
        made = tasks(max(1, int(per_count * group.share)), group)
        prompts = [
            str(coder.apply_chat_template(e.messages()[:2], tokenize=False, add_generation_prompt=True)) for e in made
        ]
        for example, prompt, output in zip(made, prompts, replies(model, coder, prompts), strict=True):
            turn = example.turns[0]
            found.append(Observation(group.source, turn.kind, len(example.passages), prompt, turn.reply, output))
    return found


def share(observations: Iterable[Observation], hit: Callable[[Observation], bool]) -> str:
    """Three table cells: the share of hits, its interval, the number of replies."""
    marks = [hit(observation) for observation in observations]
    low, high = wilson(sum(marks), len(marks))
    return f"{sum(marks) / max(1, len(marks)):.3f} | {low:.3f}-{high:.3f} | {len(marks)}"


def table(observations: list[Observation]) -> str:
    """The figures of one task set as a markdown table: value, 95 % interval, number of replies."""
    answered = [o for o in observations if o.kind in {"span", "pair"}]
    spans = [o for o in observations if o.kind == "span"]
    refused = [o for o in observations if o.output == reading.REFUSAL]
    unanswerable = [o for o in observations if o.kind == "refusal"]
    claims = [o for o in observations if o.kind == "claim"]
    rows = [
        ("exact match, one fact (answer and citation)", share(spans, lambda o: o.exact)),
        ("answer right, citation aside, one fact", share(spans, lambda o: o.span_right)),
        ("exact match, two facts", share([o for o in observations if o.kind == "pair"], lambda o: o.exact)),
        ("refusal precision", share(refused, lambda o: o.kind == "refusal")),
        ("refusal recall", share(unanswerable, lambda o: o.output == reading.REFUSAL)),
        ("support judgement accuracy", share(claims, lambda o: o.exact)),
    ]
    for count in range(1, 6):
        group = [o for o in answered if o.passages == count]
        rows.append((f"citation right, {count} passage{'s' * (count > 1)}", share(group, lambda o: o.citation_right)))
        rows.append((f"exact match, {count} passage{'s' * (count > 1)}", share(group, lambda o: o.exact)))
    return "| measure | value | 95 % interval (Wilson) | n |\n| --- | --- | --- | --- |\n" + "\n".join(
        f"| {name} | {value} |" for name, value in rows
    )


ORIGINS = {
    "starter": """trained from scratch on one CPU core by `models/starter/train.py` (two runs, 70 and 108 minutes,
45 million tokens: docs/decisions/starter-model.md). It is there so that the whole system (serving, fine-tuning,
evaluation, quantization) can be built and tested without a download.""",
    "student": """cut out of the starter model by `models/starter/narrow.py` and trained on by `models/starter/train.py`
(docs/decisions/starter-model.md). It is what `sluice run distill` teaches: less than a quarter of its teacher.""",
}
"""How the model of each size (`network.SIZES`) came to be."""

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: en
---
# Sluice {name} model

A {parameters:.2f} million parameter Llama (hidden {shape.hidden_size}, {shape.num_hidden_layers} layers,
{shape.num_attention_heads} heads of {head}, vocabulary {shape.vocab_size}; {size:.1f} MB of bf16 weights),
{origin} It reads passages and copies out the answer with the number of the passage. It knows nothing beyond its
prompt and cannot hold a conversation.

## Use
System message: `{system}` User message: the passages, each on a line of its own as `[1] Title: text`, an empty line,
then `Question: ...`. The reply is a span and its passage, `14 days [2]`, two of them parted by `; `, or `{refusal}`
For a judgement the last lines are `Claim: ...` and `{judge}`; the reply is `yes` or `no`. Prompts of up to about 700
tokens are like those of training; the position limit is {shape.max_position_embeddings}. The chat template marks the
replies with `generation`, so trl's `assistant_only_loss` works. Replies through vLLM begin with a space: strip them.

## Training data
Generated conversations with fresh random names, numbers and words (`models/starter/reading.py`); name lists from Faker
(MIT). No text of any corpus or of the evaluation sample was used, neither for the weights nor for the tokenizer.

## Figures
Greedy decoding on generated tasks with seeds apart from training. A reply is exact only if every character is right.

A short page has passages of one or two sentences, as the retriever's evidence; a long one up to six. In the last
set only refusals' questions and distractors have known wording; its sentences are those of `models/starter/unseen.py`.

{figures}

## Evaluation on the sample's cases
{begin}
{cases}
{end}

## Limits
Questions that share few words with the passage, arithmetic, comparing, counting and joining facts of several passages
are beyond it. It can be led by instructions hidden in passages. Do not rely on it for anything but tests.

Made by `python -m models.starter.report`; do not edit the figures by hand.
"""


def card(weights: Path, observations: list[Observation]) -> str:
    """The model card, with the kept part of an earlier card between the `cases` marks."""
    model = LlamaForCausalLM.from_pretrained(weights)
    shape = model.config
    name = next(name for name, size in network.SIZES.items() if size.hidden == shape.hidden_size)
    target = weights / "README.md"
    old = target.read_text() if target.exists() else ""
    kept = old.split(CASES[0])[1].split(CASES[1])[0].strip() if CASES[0] in old else "Not evaluated yet."
    return CARD.format(
        name=name,
        origin=ORIGINS[name],
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        size=(weights / "model.safetensors").stat().st_size / 1e6,
        shape=shape,
        head=shape.hidden_size // shape.num_attention_heads,
        system=reading.SYSTEM,
        refusal=reading.REFUSAL,
        judge=reading.JUDGE,
        figures="\n\n".join(
            f"### {group.about}\n{table([o for o in observations if o.source == group.source])}" for group in TASK_SETS
        ),
        begin=CASES[0],
        end=CASES[1],
        cases=kept,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--per-count", type=int, default=200, help="tasks for each number of passages")
    parser.add_argument("--raw", type=Path, help="write every prompt and reply to this JSON-lines file")
    parser.add_argument("--reuse", action="store_true", help="compute the figures again from the --raw file")
    parser.add_argument("--dry", action="store_true", help="print the card, do not write it")
    given = parser.parse_args()
    hf_logging.set_verbosity_error()
    if given.reuse and not given.raw:
        parser.error("--reuse needs --raw")
    if given.reuse:
        observations = [Observation(**json.loads(line)) for line in given.raw.read_text().splitlines()]
    else:
        observations = observe(given.weights, given.per_count)
    if given.raw and not given.reuse:
        given.raw.write_text("".join(json.dumps(asdict(o), ensure_ascii=False) + "\n" for o in observations))
    text = card(given.weights, observations)
    if not given.dry:
        (given.weights / "README.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
