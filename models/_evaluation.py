"""What every model's evaluation shares: batches are gathered, and what they say is logged at the end."""

from abc import abstractmethod

from pcgen.base import Batch, GenerativeModel


class Evaluated(GenerativeModel):
    """A model that gathers in `validation_step` what its `log_evaluation` then logs, for tests too."""

    @abstractmethod
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather what a batch says."""

    @abstractmethod
    def log_evaluation(self, stage: str) -> None:
        """Log what was gathered as `<stage>/<name>`, the stage being "val" or "test", and begin anew."""

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Do as in validation, on the test split."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log what a validation gathered."""
        self.log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Do as in validation."""
        self.log_evaluation("test")
