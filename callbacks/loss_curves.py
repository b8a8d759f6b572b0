"""The losses over the epochs."""

import math
from collections.abc import Iterable
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from pcgen.callbacks._picture import Drawing, Picture, several, warn
from pcgen.errors import ConfigurationError
from pcgen.viz import draw_curves


class LossCurves(Picture):
    """Draws logged quantities over the epochs, training and validation in one panel.

    A curve is kept in the checkpoint, so that a resumed training goes on with it.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        quantities: Logged under `train/`, `val/` or both, each a panel. Several joined by `+` share one, such as
            `energy_real+energy_fake+margin`. What a model does not log is left out.
    """

    name = "loss_curves"

    def __init__(
        self, every_n_epochs: int = 10, quantities: tuple[str, ...] = ("loss", "reconstruction", "kl")
    ) -> None:
        super().__init__(every_n_epochs)
        self.quantities = several("quantities", quantities)
        self.panels = [_members(words) for words in self.quantities]
        self.history: dict[str, list[list[float]]] = {}  # [epoch, value] by name
        self._warned = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Note the validation's values when they are new: between validations the trainer keeps the old ones."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._note(trainer, "val")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the training's values, and draw after the chosen epochs."""
        self._note(trainer, "train")
        super().on_train_epoch_end(trainer, pl_module)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing | None:  # noqa: ARG002 -- as all
        """Draw a panel for each quantity."""
        names = [f"{split}/{quantity}" for quantity in self._names for split in ("train", "val")]
        pairs = {name: [(x, y) for x, y in self.history[name]] for name in names if self.history.get(name)}
        if pairs:
            return Drawing(draw_curves(pairs, panels=self.panels))
        if not self._warned:
            self._warned = True
            logged = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            warn(trainer, f"LossCurves: none of {', '.join(self._names)} is logged; the model logs {logged}")
        return None

    def state_dict(self) -> dict[str, Any]:
        """Give the curves as plain values."""
        return {"history": {name: [list(pair) for pair in pairs] for name, pairs in self.history.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the curves up again."""
        self.history = {name: [list(pair) for pair in pairs] for name, pairs in state_dict["history"].items()}

    @property
    def _names(self) -> list[str]:
        """The single quantities, each once."""
        return list(dict.fromkeys(name for panel in self.panels for name in panel))

    def _note(self, trainer: Trainer, split: str) -> None:
        epoch = trainer.current_epoch + 1
        logged = trainer.callback_metrics  # on every rank: averages over the ranks are taken when this is read
        for name in (f"{split}/{quantity}" for quantity in self._names):
            if name in logged:
                value = float(logged[name])
                before = _earlier(self.history.get(name, []), epoch)
                self.history[name] = [*before, [float(epoch), value if math.isfinite(value) else math.nan]]


def _members(words: str) -> list[str]:
    """Give the quantities that share a panel."""
    names = [name.strip() for name in words.split("+")]
    if not all(names):
        raise ConfigurationError(f"quantities holds {words!r}; write one name, or names joined by single +")
    return names


def _earlier(pairs: Iterable[list[float]], epoch: int) -> list[list[float]]:
    return [pair for pair in pairs if pair[0] < epoch]  # a resumed epoch replaces what it had left behind
