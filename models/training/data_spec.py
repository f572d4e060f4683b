"""Section `training_data` of the policy file: where training rows come from, and which of them are learnt."""

from pydantic import Field

from models.training.asking import TeacherSpec
from models.training.curation import CurationSpec
from models.training.data import RowSpec
from models.training.feedback import FeedbackSpec
from models.training.files import FileLimits, FileSpec


class DataSpec(RowSpec):
    """Rows made by rule (the fields of their own), and rows and pairs from elsewhere."""

    preference_pairs: int = Field(0, ge=0)
    """Most pairs of a right and a wrong answer made by rule from the train cases and the corpus, for DPO."""
    files: tuple[FileSpec, ...] = ()
    """Files of training data, in any of the four formats."""
    file_limits: FileLimits = FileLimits()
    """What is let pass in them."""
    feedback: FeedbackSpec | None = None
    """Learn from the ratings and corrections of production; null: do not."""
    teacher: TeacherSpec | None = None
    """A teacher that answers questions on the corpus; null: none."""
    curation: CurationSpec = CurationSpec()
    """Rows of every source that are refused: those that give a held-back case away, and repetitions."""
    validation_share: float = Field(0.0, ge=0, le=0.5)
    """Share of the source documents whose rows are kept for early stopping; 0: none, and nothing stops early."""

    @property
    def by_rule(self) -> RowSpec:
        """The part that says how rows are made by rule."""
        return RowSpec.model_validate(self.model_dump(include=set(RowSpec.model_fields)))
