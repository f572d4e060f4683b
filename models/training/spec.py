"""How a model is trained: the method, its size, the run, and what is learnt from preferences afterwards."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.settings import Spec

Method = Literal["full", "lora", "qlora", "prefix", "ia3"]
ADAPTERS: tuple[Method, ...] = ("lora", "qlora", "prefix", "ia3")
"""Methods that leave an adapter beside the base; all but prefix tuning are merged into it, too."""

RATES: dict[Method, float] = {"full": 1e-4, "lora": 1e-3, "qlora": 1e-3, "prefix": 1e-2, "ia3": 1e-2}
"""Peak learning rate where a spec names none: the fewer weights a method moves, the further each has to go."""


class StepSpec(Spec):
    """What every training decides about its method and its steps."""

    method: Method = "qlora"
    """full: every weight. lora, qlora: an adapter of low rank, over a base held in bf16 or in 4 bits (NF4, double
    quantization). prefix: virtual tokens before the prompt, served by the transformers engine only. ia3: a factor for
    each key, value and feed-forward unit, served merged."""
    rank: int = Field(16, ge=1, le=16)
    """lora, qlora: rank of the adapter matrices; the engine serves adapters up to rank 16."""
    alpha: int = Field(32, ge=1, le=256)
    """lora, qlora: scale of the adapter: its product is multiplied by alpha / rank."""
    epochs: int = Field(2, ge=1, le=100)
    """How often every row is seen."""
    batch_size: int = Field(8, ge=1, le=512)
    """Rows (pairs, for preferences) in one forward pass; with packing, packs (one or two are enough then)."""
    gradient_accumulation: int = Field(1, ge=1, le=256)
    """Forward passes in one optimizer step."""
    max_length: int = Field(1024, ge=64, le=131072)
    """Longest row in tokens; longer rows are left out and counted. With packing also the length of a pack."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients with a larger norm are scaled down to it."""
    gradient_bound: float = Field(1000.0, gt=0)
    """Norm before scaling that no healthy gradient has."""
    gradient_patience: int = Field(5, ge=1)
    """Steps in a row above that bound which end the training."""
    gradient_checkpointing: bool = False
    """Keep fewer activations and compute them again: less memory, about a third slower. Not for prefix."""
    seed: int = Field(0, ge=0)
    """Seed of the start and of the order of the rows."""
    checkpoint_steps: int = Field(20, ge=1)
    """Optimizer steps between two checkpoints; a killed run goes on from the last whole one."""


class PreferenceSpec(StepSpec):
    """Direct preference optimization (Rafailov et al. 2023) on the fine-tuned model: a new LoRA adapter over it."""

    method: Literal["lora", "qlora"] = "lora"
    """qlora holds the frozen fine-tuned model in 4 bits (NF4); lora holds it in bf16."""
    beta: float = Field(0.1, gt=0, le=10)
    """Weight of staying near the fine-tuned model: small values let the preferences move it further."""
    learning_rate: float = Field(2e-4, gt=0, le=0.1)
    """Peak learning rate of AdamW."""
    rank: int = Field(8, ge=1, le=16)
    """Rank of the adapter matrices."""
    alpha: int = Field(16, ge=1, le=256)
    """Scale of the adapter: its product is multiplied by alpha / rank."""
    epochs: int = Field(1, ge=1, le=100)
    """How often every pair is seen."""


class TrainSpec(StepSpec):
    """How the model is trained."""

    virtual_tokens: int = Field(16, ge=1, le=512)
    """prefix: virtual tokens before the prompt; each takes a place of the context."""
    learning_rate: float | None = Field(None, gt=0, le=0.1)
    """Peak learning rate of AdamW; it rises linearly over the warm-up and falls along a cosine to zero. None: that of
    the method (full 1e-4, lora and qlora 1e-3, prefix and ia3 1e-2); the run's parameters say which was taken."""
    packing: bool = False
    """Lay rows end to end up to max_length instead of padding each batch; no row sees another. Not for prefix."""
    weight_decay: float = Field(0.0, ge=0, le=1)
    """AdamW weight decay on what is trained."""
    evaluation_steps: int = Field(0, ge=0)
    """Optimizer steps between two looks at the validation rows; 0: they are not looked at while training runs."""
    patience: int = Field(0, ge=0)
    """Looks in a row without improvement that end the training, and the best step's weights are taken. 0: train to
    the end and take the last. Needs evaluation_steps; checkpoints then come with the looks."""
    least_improvement: float = Field(0.0, ge=0)
    """Fall of the validation loss that counts as improvement, in nats a token."""
    preference: PreferenceSpec | None = None
    """A second training on preference pairs, where the dataset has some. None: none."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.patience and not self.evaluation_steps:
            raise ValueError("patience: needs evaluation_steps, the distance between two looks at the validation rows")
        if self.method == "prefix":
            for name in ("packing", "gradient_checkpointing", "preference"):
                if getattr(self, name):
                    raise ValueError(f"{name}: not with method prefix; its virtual tokens belong before a single row")
        return self

    @property
    def rate(self) -> float:
        """The peak learning rate that is taken."""
        return self.learning_rate if self.learning_rate is not None else RATES[self.method]
