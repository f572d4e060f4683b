"""Precisions without a kernel in the engine: weights packed by bitsandbytes or hqq, and unpacked into a bf16 model.

The packed weights are a safetensors file that is really written, and the bf16 ones are unpacked from that very file:
its bytes are no estimate, and nothing can be in the model that was not in the file.
"""

from pathlib import Path
from typing import Any

from models.quantizing.methods import BLOCK, METHODS, Quantized

PACKED = "packed"
"""Folder in the model's folder that holds the packed weights; engines read only the files beside it."""
FILE = "model.safetensors"

Tensors = dict[str, Any]
"""Name → torch tensor."""


def pack(model: Any, precision: Quantized, folder: Path) -> None:
    """Write all weights of the model into `folder`/packed, the linear layers but the head at `precision`; then save the
    model with the packed weights unpacked to bf16 in `folder`."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = dict(linear_weights(model))
    tensors = {name: value.contiguous() for name, value in _own_tensors(model).items() if name not in weights}
    for name, weight in weights.items():
        parts = _packed(weight.data.float(), precision)
        tensors |= {f"{name}.{part}": value.contiguous() for part, value in parts.items()}
    path = folder / PACKED / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(sorted(tensors.items())), path, metadata={"format": "pt"})  # one entry: two change places
    written = load_file(path)
    for name, weight in weights.items():
        own = {key.removeprefix(f"{name}."): value for key, value in written.items() if key.startswith(f"{name}.")}
        weight.data = _unpacked(own, precision, tuple(weight.shape)).to(torch.bfloat16)
    model.save_pretrained(folder)


def linear_weights(model: Any) -> list[tuple[str, Any]]:
    """(name, weight) of every linear layer but the head."""
    import torch

    return [
        (f"{name}.weight", module.weight)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")
    ]


def _own_tensors(model: Any) -> Tensors:
    """The model's tensors, each once: a head that is the embeddings is not written twice."""
    seen: set[int] = set()
    found: Tensors = {}
    for name, value in model.state_dict().items():
        if value.data_ptr() not in seen:
            seen.add(value.data_ptr())
            found[name] = value
    return found


def _packed(weight: Any, precision: Quantized) -> Tensors:
    """One matrix (outputs, inputs) of float32 as the tensors of its packed form."""
    import torch

    if METHODS[precision].maker == "bitsandbytes":
        from bitsandbytes.functional import quantize_4bit

        values, state = quantize_4bit(weight, blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
        return {"packed": values, **state.as_dict(packed=True)}
    from hqq.core.quantize import Quantizer

    method = METHODS[precision]
    values, meta = Quantizer.quantize(
        weight,
        nbits=method.bits,
        group_size=method.group,
        axis=1,
        round_zero=method.bits == 4,  # as hqq's own `hqq_base_quant_config` sets it
        compute_dtype=torch.float32,
        device="cpu",
    )
    return {"packed": values, "scale": meta["scale"].half(), "zero": meta["zero"].half()}


def _unpacked(parts: Tensors, precision: Quantized, shape: tuple[int, ...]) -> Any:
    """The matrix of `_packed` as float32."""
    import torch

    values = parts.pop("packed")
    if METHODS[precision].maker == "bitsandbytes":
        from bitsandbytes.functional import QuantState, dequantize_4bit

        state = QuantState.from_dict(parts, device=torch.device("cpu"))
        return dequantize_4bit(values, state)
    from hqq.core.quantize import Quantizer

    method = METHODS[precision]
    packing = Quantizer.bit_to_packing[method.bits]
    meta = {
        "nbits": method.bits,
        "group_size": method.group,
        "shape": torch.Size(shape),
        "axis": 1,
        "scale": parts["scale"].float(),
        "zero": parts["zero"].float(),
        "packing": packing,
        "unpack_view_dtype": Quantizer.unpack_view_dtype[packing],
        "view_as_float": False,
        "compute_dtype": torch.float32,
    }
    return Quantizer.dequantize(values, meta)
