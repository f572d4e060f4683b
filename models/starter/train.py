"""Train the starter model on generated reading tasks, within a budget of minutes on one CPU core.

    python -m models.starter.train --minutes 95 --out build/starter
    python -m models.starter.train --minutes 95 --out build/longer --start build/starter/weights
    python -m models.starter.train --minutes 75 --out build/student --size student --tokenizer models/starter/weights

The second form goes on from finished weights (fresh optimizer state, a new schedule of its own). The schedule is a
function of the elapsed training time, which the checkpoint keeps: a killed run resumes where it was.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM
from transformers.utils import logging as hf_logging

from models.starter import batches, network, reading, tokenizer

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Plan:
    """Training settings; the learning rates are peaks, `other_share` is the share of non-reply tokens in the loss."""

    minutes: float
    tokens_per_batch: int = 5120
    size: str = "starter"
    muon_rate: float = 0.015
    adam_rate: float = 7e-3
    weight_decay: float = 0.01
    warmup: float = 0.01
    decay_from: float = 0.28
    other_share: float = 0.05
    other_weight: float = 0.1
    seed: int = 7

    def rate(self, progress: float) -> float:
        """Factor on the peak rates: linear warm-up, flat, linear decay to zero at the end of the budget."""
        if progress < self.warmup:
            return max(progress / self.warmup, 0.02)
        return min(1.0, max(0.0, (1.0 - progress) / (1.0 - self.decay_from)))


def optimizers(model: LlamaForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for the (tied) embedding and the norms."""
    matrices = [p for name, p in model.model.layers.named_parameters() if p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim == 1]
    rest = [{"params": [model.model.embed_tokens.weight], "share": 1.0}, {"params": norms, "share": 0.25}]
    return [
        torch.optim.Muon(matrices, lr=plan.muon_rate, weight_decay=plan.weight_decay, momentum=0.95),
        torch.optim.AdamW(rest, lr=plan.adam_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def loss_of(model: LlamaForCausalLM, batch: batches.Batch, plan: Plan) -> tuple[torch.Tensor, float]:
    """Cross-entropy over reply tokens (weight 1) and a sample of the others; also the mean over reply tokens."""
    ids, marks = torch.from_numpy(batch[0]), torch.from_numpy(batch[1])
    targets, answer = ids[:, 1:], marks[:, 1:]
    chosen = (answer | (torch.rand(answer.shape) < plan.other_share)) & (targets != 0)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[chosen]
        logits = model.lm_head(hidden)
    each = torch.nn.functional.cross_entropy(logits.float(), targets[chosen], reduction="none")
    replies = answer[chosen]
    weight = torch.where(replies, 1.0, plan.other_weight)
    return (each * weight).sum() / weight.sum(), float(each.detach()[replies].mean())


@torch.no_grad()
def forced_accuracy(model: LlamaForCausalLM, coder: Tokenizer, count: int = 60) -> dict[str, float]:
    """Share of held-out replies, by kind, whose every token is the most likely one: what greedy decoding gives."""
    right: dict[str, list[bool]] = {}
    model.eval()
    for seed in range(count):
        example = reading.example(10**15 + seed)
        ids, answer = tokenizer.encode(coder, example)
        with torch.autocast("cpu", torch.bfloat16):
            best = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].argmax(-1).tolist()
        hits = [ids[i + 1] == best[i] for i in range(len(ids) - 1)]
        starts = [i for i in range(1, len(ids)) if answer[i] and not answer[i - 1]]
        for start, turn in zip(starts, example.turns, strict=True):
            stop = ids.index(2, start)
            right.setdefault(turn.kind, []).append(all(hits[start - 1 : stop]))
            right.setdefault("all", []).append(right[turn.kind][-1])
    model.train()
    return {kind: round(sum(values) / len(values), 3) for kind, values in sorted(right.items())}


def export(model: LlamaForCausalLM, source: Path, folder: Path) -> None:
    """Write bf16 weights, configuration and tokenizer: what transformers, vLLM and peft load."""
    clone = LlamaForCausalLM(model.config)
    clone.load_state_dict(model.state_dict())
    clone.generation_config = model.generation_config
    clone.config.architectures = ["LlamaForCausalLM"]
    cast(Any, clone).to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.load(source).save_pretrained(folder)


log = logging.getLogger("starter")


@dataclass
class Run:
    """A training under way: the model, its optimizers, and how far it is (`elapsed` in seconds, `seen` in tokens)."""

    plan: Plan
    out: Path
    model: LlamaForCausalLM
    steppers: list[torch.optim.Optimizer]
    elapsed: float = 0.0
    step: int = 0
    seen: int = 0

    @property
    def progress(self) -> float:
        return self.elapsed / (self.plan.minutes * 60)

    def resume(self) -> None:
        """Continue from the checkpoint in `out`, if there is one."""
        if not (self.out / CHECKPOINT).exists():
            return
        state = torch.load(self.out / CHECKPOINT, weights_only=True)
        self.model.load_state_dict(state["model"])
        for stepper, held in zip(self.steppers, state["optimizers"], strict=True):
            stepper.load_state_dict(held)
        self.elapsed, self.step, self.seen = state["elapsed"], state["step"], state["seen"]

    def save(self) -> None:
        """Replace the checkpoint and export the weights."""
        state = {"model": self.model.state_dict(), "optimizers": [stepper.state_dict() for stepper in self.steppers]}
        part = self.out / f"{CHECKPOINT}.part"
        torch.save({**state, "elapsed": self.elapsed, "step": self.step, "seen": self.seen}, part)
        part.replace(self.out / CHECKPOINT)
        export(self.model, self.out, self.out / "weights")

    def learn(self, batch: batches.Batch) -> float:
        """One step at the rates of this moment; returns the mean loss over reply tokens."""
        for stepper, peak in zip(self.steppers, (self.plan.muon_rate, self.plan.adam_rate), strict=True):
            for group in stepper.param_groups:
                group["lr"] = peak * group.get("share", 1.0) * self.plan.rate(self.progress)
        loss, reply = loss_of(self.model, batch, self.plan)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for stepper in self.steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        self.step, self.seen = self.step + 1, self.seen + batch[0].size
        return reply


def run(plan: Plan, out: Path, start: Path | None, coding: Path | None, save_every: float = 300.0) -> None:
    """Train until the budget of minutes is used, saving and exporting into `out`; resumes from its checkpoint.

    `start` is a folder of exported weights to begin with, `coding` one whose tokenizer to take; None makes new ones.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer.json").exists():
        (tokenizer.load(coding) if coding else tokenizer.train()).save_pretrained(out)
    coder = Tokenizer.from_file(str(out / "tokenizer.json"))
    model = network.create(coder.get_vocab_size(), plan.seed, network.SIZES[plan.size])
    if start:
        model.load_state_dict(LlamaForCausalLM.from_pretrained(start, dtype=torch.float32).state_dict())
    model.set_attn_implementation("blocked")
    model.train()
    state = Run(plan, out, model, optimizers(model, plan))
    state.resume()
    stream, progress = batches.background(out, plan.seed + state.step + 1, plan.tokens_per_batch)
    (out / "plan.json").write_text(json.dumps(asdict(plan), indent=1) + "\n")
    last_save, mean = state.elapsed, None
    while state.progress < 1:
        started = time.monotonic()
        progress.value = state.progress
        reply = state.learn(next(stream))
        mean = reply if mean is None else 0.95 * mean + 0.05 * reply
        state.elapsed += time.monotonic() - started
        if state.step % 20 == 0:
            log.info("step %d min %.1f tokens %d reply %.3f", state.step, state.elapsed / 60, state.seen, mean)
        if state.elapsed - last_save > save_every or state.progress >= 1:
            started, last_save = time.monotonic(), state.elapsed
            state.save()
            log.info("step %d saved; forced %s", state.step, forced_accuracy(model, coder))
            state.elapsed += time.monotonic() - started
    log.info("finished: %d steps, %d tokens, %.1f minutes", state.step, state.seen, state.elapsed / 60)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=95.0, help="wall-clock budget of the whole training")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints, tokenizer and exported weights")
    parser.add_argument("--start", type=Path, help="folder of weights to go on from; default: from scratch")
    parser.add_argument("--size", choices=sorted(network.SIZES), default=Plan.size)
    parser.add_argument("--tokenizer", type=Path, help="folder of a model whose tokenizer to take; default: a new one")
    parser.add_argument("--muon-rate", type=float, default=Plan.muon_rate)
    parser.add_argument("--adam-rate", type=float, default=Plan.adam_rate)
    parser.add_argument("--tokens-per-batch", type=int, default=Plan.tokens_per_batch)
    given = parser.parse_args()
    hf_logging.set_verbosity_error()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    plan = Plan(given.minutes, given.tokens_per_batch, given.size, given.muon_rate, given.adam_rate)
    run(plan, given.out, given.start, given.tokenizer or given.start)


if __name__ == "__main__":
    main()
