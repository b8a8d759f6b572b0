"""What a model's latent code is like: against the prior, by itself, and against known factors."""

import json
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from pcgen import __version__
from pcgen.base import DataModule, GenerativeModel, in_chunks
from pcgen.callbacks._logging import last_step, log_final, log_table, run_folder
from pcgen.callbacks._sharing import on_rank_zero
from pcgen.errors import ConfigurationError, DataError
from pcgen.io.files import atomic
from pcgen.latents import draw_codes, live_codes
from pcgen.metrics import LatentFactorScores, data_name
from pcgen.metrics.disentanglement import Estimator
from pcgen.metrics.functional import PriorMMD2, active_units, latent_mmd2, latent_mmd2_of_prior
from pcgen.training.together import log_equal

SPLITS = ("train", "val", "test")


class LatentScores(Callback):
    """Logs how the codes compare with the prior, how many latents are used, and how they carry the data's factors.

    At the end of the chosen epochs' validation, and at the end of fit for the final weights:

    - `latent/mmd2`: kernel MMD² of the codes to N(0, I), kernel 1 / (1 + ‖x − y‖²), U-statistic: 0 on average for codes
      that follow the prior. A variational model's codes are drawn from the posterior (the same chance each time), since
      it is their distribution over the data that should be the prior.
    - `latent/active_units`: latents whose code (a posterior's mean) has a variance above 0.01 over the data. Not the
      count by the KL, which variational models log themselves.
    - `latent/modularity` and the other scores of `pcgen.metrics.LatentFactorScores`, where the data have factors, of
      the latents that carry something: 0.01 nats of KL, or a variance of 0.01 where there is no posterior.

    A test logs the test split's under `latent_test/…`. At the end the scores with their protocol, and what MMD² is for
    codes that are drawn from the prior, are in `latent_scores.json` (`latent_scores_test.json`) in the run's folder and
    in a table for the loggers. The same data each time, without augmentation. Rank zero alone works and tells the
    others; training goes on as if nothing had been drawn. What cannot be scored costs a warning, never the training.

    Args:
        num_data: Data to encode, at least 2 (20, and more than latents + 1, for factors); as many as there are if the
            split has fewer. Below some thousand the scores by mutual information are too high.
        every_n_epochs: Score at the end of every n-th epoch's validation, and at the end of fit in any case; 0 for the
            end alone.
        split: Scored while fitting.
        factor_names: Which of the data's factors to score; None for all, an empty list for none.
        discrete: Names of the factors whose values are classes, such as `has_arm`.
        estimator: Of DCI: "boosting" or "lasso", which is faster and sees linear relations alone.
        seed: Of the codes drawn, of the prior's sample and of the held-out data.
    """

    def __init__(
        self,
        *,
        num_data: int = 1000,
        every_n_epochs: int = 10,
        split: str = "val",
        factor_names: list[str] | None = None,
        discrete: list[str] | None = None,
        estimator: Estimator = "boosting",
        seed: int = 0,
    ) -> None:
        if num_data < 2 or every_n_epochs < 0:
            raise ConfigurationError(
                f"num_data {num_data}, every_n_epochs {every_n_epochs}: at least two data, every 0 or more epochs"
            )
        if split not in SPLITS:
            raise ConfigurationError(f"there is no split {split!r}; give one of {', '.join(SPLITS)}")
        if estimator not in ("boosting", "lasso"):
            raise ConfigurationError(f'estimator is {estimator!r}; choose "boosting" or "lasso"')
        self.num_data, self.every_n_epochs, self.split = num_data, every_n_epochs, split
        self.factor_names, self.discrete = factor_names, list(discrete or [])
        self.estimator, self.seed = estimator, seed
        self._latest: tuple[int, _Result] | None = None
        self._warned: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 -- Lightning's signature
        """Refuse names of factors that the data do not have, before any work."""
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, DataModule):
            _chosen(datamodule.factor_names, self.factor_names, self.discrete)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score at the chosen epochs, and whenever validation is asked for by itself."""
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not trainer.sanity_checking and (due or trainer.state.fn != TrainerFn.FITTING):
            log_equal(pl_module, self._score(trainer, pl_module, self.split, "latent"))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the final weights, unless the last validation has, and write the file."""
        stale = self._latest is None or self._latest[0] != trainer.global_step
        if stale and (values := self._score(trainer, pl_module, self.split, "latent")):
            log_final(trainer, values)
        self._write(trainer, "latent_scores.json", "latent")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the test split."""
        log_equal(pl_module, self._score(trainer, pl_module, "test", "latent_test"))
        self._write(trainer, "latent_scores_test.json", "latent_test")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 -- Lightning's signature
        """Forget the last scores."""
        self._latest = None

    def _score(self, trainer: Trainer, pl_module: LightningModule, split: str, prefix: str) -> dict[str, float]:
        """Give the scores by the names they are logged under, on every rank; none where there is nothing to score."""
        self._latest = None
        found = _encodable(trainer, pl_module)
        if isinstance(found, str):
            self._warn(trainer, f"no scores of the code: {found}")
            return {}
        result = on_rank_zero(trainer, lambda: self._measure(*found, split))
        for remark in result.remarks:
            self._warn(trainer, remark)
        self._latest = (trainer.global_step, result)
        return {f"{prefix}/{name}": value for name, value in result.values.items()}

    @torch.no_grad()
    def _measure(self, model: GenerativeModel, datamodule: DataModule, split: str) -> "_Result":
        batch = datamodule.take(split, self.num_data)
        with isolate_rng():
            means = in_chunks(model.encode, batch.x, model.chunk_size).float().cpu()
            codes = draw_codes(model, batch.x, seed=self.seed).float().cpu()
            live = live_codes(model, batch.x).float().cpu() if len(codes) > 1 else means
        names = ["mmd2", "active_units"]
        protocol = self._protocol(datamodule, split, len(codes))
        if len(codes) < 2 or not (means.isfinite().all() and codes.isfinite().all()):
            why = f"{len(codes)} data of split {split} are too few" if len(codes) < 2 else "some hold NaN or infinity"
            return _Result(
                dict.fromkeys(names, math.nan), None, (), (f"the scores of the codes are NaN: {why}",), protocol
            )
        scores = {"mmd2": latent_mmd2(codes, seed=self.seed).item(), "active_units": float(active_units(means))}
        known, left_out, remarks = self._with_factors(live, batch.factors, datamodule.factor_names)
        return _Result(scores | known, latent_mmd2_of_prior(*codes.shape), left_out, remarks, protocol)

    def _with_factors(
        self, codes: Tensor, factors: Tensor | None, names: Sequence[str]
    ) -> tuple[dict[str, float], tuple[str, ...], tuple[str, ...]]:
        """Give the scores against factors, the names of those that are constant, and what there is to say."""
        if factors is None:
            return {}, (), ()
        names = names or [f"factor {i}" for i in range(factors.shape[1])]
        columns = _chosen(names, self.factor_names, self.discrete)
        if not columns:
            return {}, (), ()
        chosen = [names[i] for i in columns]
        discrete = [name in self.discrete for name in chosen]
        metric = LatentFactorScores(
            factor_names=chosen, discrete=discrete, estimator=self.estimator, seed=self.seed, sync_on_compute=False
        )
        try:
            metric.update(codes, factors[:, columns])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the remark below says the metric's; an estimator's would be hundreds
                values = {name: value.item() for name, value in metric.compute().items()}
        except DataError as error:
            return {}, (), (f"the code is not scored against factors: {error}",)
        out = ", ".join(metric.left_out)
        remarks = (f"scores of the code leave out factors that are constant over the data: {out}",) if out else ()
        return values, metric.left_out, remarks

    def _protocol(self, datamodule: DataModule, split: str, found: int) -> dict[str, Any]:
        return {
            "data": data_name(type(datamodule).__name__, datamodule.info()),
            "split": split,
            "num_data": found,
            "mmd2": "U-statistic to N(0, I), kernel 1 / (1 + |x - y|^2)",
            "active_units": "Var_x(E[z_k | x]) > 0.01",
            "estimator": self.estimator,
            "discrete": self.discrete,
            "seed": self.seed,
            "version": __version__,
        }

    def _write(self, trainer: Trainer, file: str, prefix: str) -> None:
        folder = run_folder(trainer)  # on every rank: it is a broadcast
        if self._latest is None or not trainer.is_global_zero:
            return
        result = self._latest[1]
        if not getattr(trainer, "fast_dev_run", False):
            with atomic(folder / file) as unfinished:
                unfinished.write_text(result.to_json(), encoding="utf-8")
        said = ", ".join(f"{name} {value}" for name, value in result.protocol.items())
        names = list(result.values)
        log_table(
            trainer, f"scores/{prefix}", [*names, "protocol"], [[*result.values.values(), said]], last_step(trainer)
        )

    def _warn(self, trainer: Trainer, message: str) -> None:
        if trainer.is_global_zero and message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=4)


class _Result(NamedTuple):
    """Scores by name, MMD² of draws of the prior, factors left out, remarks, and the protocol as plain values."""

    values: dict[str, float]
    of_prior: PriorMMD2 | None
    left_out: tuple[str, ...]
    remarks: tuple[str, ...]
    protocol: dict[str, Any]

    def to_json(self) -> str:
        """Give it as JSON; NaN becomes null, which every reader takes."""
        plain = {
            "scores": {name: value if math.isfinite(value) else None for name, value in self.values.items()},
            "mmd2_of_prior": None if self.of_prior is None else self.of_prior._asdict(),
            "factors_left_out": list(self.left_out),
            "remarks": list(self.remarks),
            "protocol": self.protocol,
        }
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def _encodable(trainer: Trainer, pl_module: LightningModule) -> tuple[GenerativeModel, DataModule] | str:
    """Give the model and the data whose codes can be scored, or say why there are none."""
    if not isinstance(pl_module, GenerativeModel) or not pl_module.can("encode"):
        return f"{type(pl_module).__name__} cannot encode"
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, DataModule):
        return "the trainer has no pcgen datamodule"
    return pl_module, datamodule


def _chosen(known: Sequence[str], wanted: Sequence[str] | None, discrete: Sequence[str]) -> list[int]:
    """Give the columns of the factors that are wanted.

    Raises:
        ConfigurationError: If the data do not have one of the names.
    """
    for argument, names in ("factor_names", wanted or ()), ("discrete", discrete):
        for name in names:
            if name not in known:
                there = ", ".join(known) or "none"
                raise ConfigurationError(f"{argument} holds {name!r}, but the factors of the data are: {there}")
    return list(range(len(known))) if wanted is None else [list(known).index(name) for name in wanted]
