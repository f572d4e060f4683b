"""Cut a narrower model out of the starter: principal directions of its stream, parts of its heads, its busiest neurons.

    python -m models.starter.narrow --weights models/starter/weights --size student --out build/narrow

Structured pruning as a start for a student (Muralidharan et al. 2024, "Compact language models via pruning and
knowledge distillation"), which `models/starter/train.py --start` then trains. What is kept of each part:

- stream: the leading principal directions of the activations between the blocks, in one orthonormal basis for all;
- query and key: every second RoPE pair (at half the head size): the kept pairs turn exactly as before;
- value and output: the best approximation of their product at the smaller rank (singular value decomposition);
- feed-forward: the neurons whose output is largest on average.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from models.starter import batches, network, tokenizer
from models.starter.train import export

CALIBRATION_BATCHES = 24
Weight = torch.Tensor


class Activations:
    """Second moments of the normalised stream [hidden, hidden] and mean sizes of the neurons, gathered by hooks."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        width = model.config.hidden_size
        self.moments = torch.zeros(width, width, dtype=torch.float64)
        self.neurons = [torch.zeros(model.config.intermediate_size) for _ in model.model.layers]
        for index, layer in enumerate(model.model.layers):
            layer.register_forward_pre_hook(self._stream)
            layer.mlp.down_proj.register_forward_pre_hook(self._busy(index))
        model.model.norm.register_forward_pre_hook(self._stream)

    def _stream(self, _module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        rows = arguments[0].reshape(-1, arguments[0].shape[-1]).double()
        rows = rows / rows.pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1e-6)
        self.moments += rows.T @ rows / len(rows)

    def _busy(self, index: int) -> Any:
        def hook(_module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
            self.neurons[index] += arguments[0].abs().mean(dim=(0, 1))

        return hook


@torch.no_grad()
def narrow(source: LlamaForCausalLM, size: network.Size, rows: list[torch.Tensor]) -> LlamaForCausalLM:
    """A model of `size` (as many layers and heads as `source`) that computes nearly what `source` does on `rows`.

    `rows` are token ids [rows, length]. Of the source's own size it computes the same, up to rounding.
    """
    seen = Activations(source)
    for ids in rows:
        source.model(input_ids=ids, use_cache=False)
    basis = torch.linalg.eigh(seen.moments).eigenvectors[:, -size.hidden :].flip(-1).float()
    made = network.blank(source.config.vocab_size, size)
    gain = float(source.config.hidden_size / size.hidden) ** 0.5  # the norm divides by what is left of the stream
    made.model.embed_tokens.weight.copy_(source.model.embed_tokens.weight @ basis)
    made.model.norm.weight.fill_(float(source.model.norm.weight.mean()) * gain)
    shape: Any = source.config
    heads, before = int(shape.num_attention_heads), int(shape.head_dim)
    for index, (ours, theirs) in enumerate(zip(made.model.layers, source.model.layers, strict=True)):
        ours.input_layernorm.weight.fill_(gain)
        ours.post_attention_layernorm.weight.fill_(gain)
        inside = theirs.input_layernorm.weight[:, None] * basis
        kept = _pairs(before, before // size.head)
        for name in ("q_proj", "k_proj"):
            full = getattr(theirs.self_attn, name).weight.view(heads, before, -1)[:, kept]
            # the scores are divided by the root of the head size, which is smaller now
            scale = (size.head / before) ** 0.25
            getattr(ours.self_attn, name).weight.copy_((full @ inside).reshape(heads * size.head, -1) * scale)
        value, output = _values(theirs.self_attn, heads, before, inside, basis, size.head)
        ours.self_attn.v_proj.weight.copy_(value)
        ours.self_attn.o_proj.weight.copy_(output)
        busy = seen.neurons[index] * theirs.mlp.down_proj.weight.norm(dim=0)
        chosen = busy.topk(size.inner).indices.sort().values
        inside = theirs.post_attention_layernorm.weight[:, None] * basis
        ours.mlp.gate_proj.weight.copy_(theirs.mlp.gate_proj.weight[chosen] @ inside)
        ours.mlp.up_proj.weight.copy_(theirs.mlp.up_proj.weight[chosen] @ inside)
        ours.mlp.down_proj.weight.copy_(basis.T @ theirs.mlp.down_proj.weight[:, chosen])
    return made


def _pairs(head: int, step: int) -> list[int]:
    """Rows of every `step`-th RoPE pair of a head: the first half of a head holds one member of each."""
    half = list(range(0, head // 2, step))
    return [*half, *(pair + head // 2 for pair in half)]


def _values(attention: Any, heads: int, before: int, inside: Weight, basis: Weight, rank: int) -> tuple[Weight, Weight]:
    """Value and output weights of the smaller heads: the best of that rank for each head's product."""
    values, outputs = [], []
    for head in range(heads):
        rows = slice(head * before, (head + 1) * before)
        whole = (basis.T @ attention.o_proj.weight[:, rows]) @ (attention.v_proj.weight[rows] @ inside)
        left, strength, right = torch.linalg.svd(whole)
        root = strength[:rank].sqrt()
        values.append(root[:, None] * right[:rank])
        outputs.append(left[:, :rank] * root)
    return torch.cat(values), torch.cat(outputs, dim=1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--size", choices=sorted(network.SIZES), default="student")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    source = LlamaForCausalLM.from_pretrained(given.weights, dtype=torch.float32).eval()
    coder = tokenizer.load(given.weights)
    stream = batches.stream(coder.backend_tokenizer, 11, None, 4096)
    rows = [torch.from_numpy(ids) for ids, _ in islice(stream, CALIBRATION_BATCHES)]
    given.out.mkdir(parents=True, exist_ok=True)
    coder.save_pretrained(given.out)
    export(narrow(source, network.SIZES[given.size], rows), given.out, given.out)


if __name__ == "__main__":
    main()
