"""How a small model is made to answer like a larger one: section `distillation` of the policy file."""

from typing import Self

from pydantic import Field, model_validator

from infra.settings import Spec
from models.training.asking import AskingSpec
from models.training.data_spec import DataSpec
from models.training.spec import TrainSpec
from models.training.teacher import TeachSpec

TUNED = "tuned"
"""Name of the run's own fine-tuned model as the teacher."""
FULL = TrainSpec(method="full")
"""A student is small: all of its weights are trained."""


class TeacherEndpoint(Spec):
    """A teacher behind an OpenAI-compatible address. It gives answers only, no logits. Its key is the setting
    SLUICE_TEACHER_API_KEY."""

    url: str = Field(min_length=1, pattern="^https?://")
    """Root of the server, without /v1."""
    model: str = Field(min_length=1)
    """Name of the model there."""
    parameters: int | None = Field(None, ge=1)
    """Parameters of that model, as its maker states them. None: they are not known, and the ratio is not checked."""


class SequenceSpec(AskingSpec):
    """Learning from the teacher's answers."""

    asking: TeachSpec = TeachSpec(instructions="")
    """How the teacher is asked, and which answers are learnt. The fine-tuned teacher knows the form of the answers; one
    that does not needs instructions."""
    reference_rows: bool = True
    """Learn the reference answers beside the teacher's: the rows made by rule and from the train cases."""


class LogitSpec(Spec):
    """Learning from the teacher's distributions over the next token."""

    beta: float = Field(0.5, ge=0, le=1)
    """Generalized Jensen-Shannon divergence: 0 covers all that the teacher may say, 1 keeps to what it says most."""
    on_policy: float = Field(0.5, ge=0, le=1)
    """Share of the steps in which the student answers itself and is corrected on its own words."""
    temperature: float = Field(1.0, gt=0, le=5)
    """Of the student's sampling."""
    max_new_tokens: int = Field(32, ge=1, le=4096)
    """Most tokens that the student answers with."""
    training: TrainSpec = FULL
    """Rate, epochs, batches and checkpoints of this step; method full, rows neither packed nor looked at on the way."""

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        training = self.training
        if training.method != "full" or training.packing or training.evaluation_steps or training.preference:
            raise ValueError("training: logits need method full, without packing, evaluation_steps and preference")
        return self


class DistillSpec(Spec):
    """Student, teacher, the steps, and what the student must keep."""

    student: str = Field("student", min_length=1)
    """`student` (comes with the project), a folder relative to the policy file, or a Hugging Face id (org/name)."""
    teacher: str | TeacherEndpoint = TUNED
    """`tuned`: the model that this run fine-tunes; else a folder, a Hugging Face id, or an endpoint."""
    least_ratio: float = Field(4, ge=1)
    """Least number of the teacher's parameters for each of the student's."""
    data: DataSpec | None = None
    """How the rows are made that the student is taught on. None: as for the teacher (section `training_data`)."""
    training: TrainSpec = FULL
    """How the student learns answers: the teacher's, and, to compare, the reference ones without a teacher; method
    full."""
    sequence: SequenceSpec | None = SequenceSpec()
    """Learn from the teacher's answers; null leaves this step out."""
    logits: LogitSpec | None = LogitSpec()
    """Learn from its distributions afterwards; null leaves this step out."""
    metric: str = "answer_correct"
    """What student and teacher are compared by."""
    keep_share: float = Field(0.9, gt=0, le=1)
    """Share of the teacher's score that the student must keep."""

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.training.method != "full":
            raise ValueError(
                f"training.method {self.training.method}: all weights of a student are trained, write full"
            )
        if self.sequence is None and self.logits is None:
            raise ValueError("sequence and logits are both null: the student would learn nothing from the teacher")
        if isinstance(self.teacher, TeacherEndpoint) and self.logits is not None:
            raise ValueError(
                "an endpoint gives answers, no logits: set logits to null, or name a teacher by its folder"
            )
        return self
