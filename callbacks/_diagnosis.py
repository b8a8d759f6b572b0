"""Where numbers ceased to be finite: a training step is run again, with an eye on every module."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn


class Origin(NamedTuple):
    """Where it began.

    Attributes:
        pass_: `"forward"`, `"loss"` or `"backward"`.
        module: Name of the first module, "" for the model's own computation.
        words: The same for a reader.
    """

    pass_: str
    module: str
    words: str


class Step(NamedTuple):
    """One optimizer step, to be run again.

    Attributes:
        batches: With their numbers in the epoch: one, or as many as are accumulated.
        optimizer_steps: How many optimizers have stepped in the last batch before this one, of a model that optimises
            by hand.
        progress: Steps counted when it began, of such a model.
    """

    batches: Sequence[tuple[Any, int]]
    optimizer_steps: int
    progress: tuple[int, ...]


def find_origin(trainer: Trainer, model: LightningModule, step: Step) -> Origin | None:
    """Run a step again as it was, without changing anything, and say where numbers first ceased to be finite.

    Every process has to call it, for a model may exchange numbers in its step.

    Args:
        trainer: In the middle of that step.
        model: With the buffers that it had before.
        step: Which.

    Returns:
        The first module in the order of computation, forwards and then backwards; None if all was finite this time, or
        the step could not be run again.
    """
    watch = _Watch(model)
    with isolate_rng(), _unchanged(trainer, model, step), torch.enable_grad(), watch:
        try:
            for batch, batch_idx in step.batches:
                _run(trainer, model, batch, batch_idx, watch, step.optimizer_steps)
        except Exception:  # noqa: BLE001 -- whatever it is, the fault that was found is what has to be told
            return watch.origin()
    return watch.origin()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Give all tensors with a fraction in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tensors_in(inner)


# ── running it again ──────────────────────────────────────────────────────────────────────────────────────────────────


class _EnoughError(Exception):
    """The step has come to where the fault was found."""


def _run(trainer: Trainer, model: LightningModule, batch: Any, batch_idx: int, watch: "_Watch", turns: int) -> None:
    left = turns

    def stepped(*_: Any, **__: Any) -> None:
        nonlocal left
        if not left:
            raise _EnoughError
        left -= 1

    with trainer.precision_plugin.train_step_context(), _replaced(trainer.strategy, optimizer_step=stepped):
        try:
            output = model.training_step(batch, batch_idx)
        except _EnoughError:
            return
    if model.automatic_optimization:
        loss = output["loss"] if isinstance(output, Mapping) else output
        if loss is not None:
            watch.differentiate(loss)


@contextmanager
def _unchanged(trainer: Trainer, model: LightningModule, step: Step) -> Iterator[None]:
    """Keep what a training step changes besides the weights, and keep it from logging and counting."""
    plain = {key: type(v)(v) for key, v in vars(model).items() if type(v) in (dict, list) and key not in _OF_MODULES}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    gradients = [(p, p.grad) for p in model.parameters()]
    counted = progress_of(trainer)
    set_progress(trainer, step.progress)
    try:
        with _replaced(model, log=_silent, log_dict=_silent):
            yield
    finally:
        set_progress(trainer, counted)
        vars(model).update(plain)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for parameter, gradient in gradients:
            parameter.grad = gradient


_OF_MODULES = frozenset(vars(nn.Module()))


@contextmanager
def _replaced(thing: Any, **methods: Any) -> Iterator[None]:
    """Put methods in the place of an object's own, for a while."""
    with ExitStack() as stack:
        for name, method in methods.items():
            if name in vars(thing):
                stack.callback(vars(thing).__setitem__, name, vars(thing)[name])
            else:
                stack.callback(vars(thing).pop, name)
            vars(thing)[name] = method
        yield


def progress_of(trainer: Trainer) -> tuple[int, ...]:
    """Give how many optimizer steps are counted, of a model that optimises by hand."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    return (progress.total.ready, progress.total.completed, progress.current.ready, progress.current.completed)


def set_progress(trainer: Trainer, counted: tuple[int, ...]) -> None:
    """Count as many."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.total.ready, progress.total.completed, progress.current.ready, progress.current.completed = counted


# ── watching ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Passage(NamedTuple):
    """A tensor that goes into a module or comes out of it, and the module around that one."""

    module: str
    around: str
    into: bool


class _Watch:
    """Hooks on every module and on the tensors between them."""

    def __init__(self, model: LightningModule) -> None:
        self.model = model
        self._names = {module: name for name, module in model.named_modules() if name}
        self._running: list[str] = []  # modules that are being computed, the innermost at the end
        self._forward: Origin | None = None
        self._backward: Origin | None = None
        self._passed: dict[tuple[int, int], tuple[Tensor, list[_Passage]]] = {}
        self._handles: list[Any] = []

    def origin(self) -> Origin | None:
        """Give what was seen first."""
        return self._forward or self._backward

    def __enter__(self) -> Self:
        for module in self._names:
            self._handles.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._after, with_kwargs=True))
        self._replaced = ExitStack()
        if not self.model.automatic_optimization:
            self._replaced.enter_context(_replaced(self.model, manual_backward=self.differentiate))
        return self

    def __exit__(self, *_: object) -> None:
        self._replaced.close()
        for handle in self._handles:
            handle.remove()

    # ── forwards ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        name, given = self._names[module], list(tensors_in((args, kwargs)))
        if self._forward is None and not _finite(given):
            self._forward = Origin("forward", self._inner, f"in {self._own()}, in what it gives to {name}")
        self._listen(given, name, into=True)
        self._running.append(name)

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:  # noqa: ARG002 -- torch's
        name, given = self._running.pop(), list(tensors_in(output))
        if self._forward is None and not _finite(given):
            self._forward = Origin("forward", name, f"in {self._named(name)}, whose input is finite")
        self._listen(given, name, into=False)

    @property
    def _inner(self) -> str:
        return self._running[-1] if self._running else ""

    def _own(self) -> str:
        return f"the computation of {self._named(self._inner)} itself"

    def _named(self, name: str) -> str:
        kind = type(self.model.get_submodule(name)).__name__
        return f"{name} ({kind})" if name else kind

    # ── backwards ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _listen(self, given: list[Tensor], name: str, *, into: bool) -> None:
        """Ask to be told the gradient of what goes into a module or comes out of it."""
        for t in given:
            if not t.requires_grad:
                continue
            # Kept, so that no other takes its number; changed in place it is another one.
            _, passed = self._passed.setdefault((id(t), t._version), (t, []))  # noqa: SLF001 -- no public way
            if not passed:
                t.register_hook(partial(self._gradient, passed))
            passed.append(_Passage(name, self._inner, into))

    def _gradient(self, passed: list["_Passage"], gradient: Tensor) -> None:
        if self._backward is not None or _finite([gradient]):
            return
        consumers = [passage.module for passage in passed if passage.into]  # the innermost is the last
        if consumers:
            words = f"in the way back through {self._named(consumers[-1])}, whose output's gradient is finite"
            self._backward = Origin("backward", consumers[-1], words)
        else:
            last = passed[-1]  # the outermost that gives it
            own = f"the computation of {self._named(last.around)} itself"
            words = f"in the way back through {own}, in the gradient of what {last.module} gives"
            self._backward = Origin("backward", last.around, words)

    def differentiate(self, loss: Tensor, *_: Any, **__: Any) -> None:
        """Compute the gradients of a loss, and look at those of the parameters too."""
        if self._forward is None and not _finite([loss.detach()]):
            self._forward = Origin("loss", "", f"in {self._own()}: the loss, of finite outputs of all modules")
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=False)
        names = [name for name, _ in named]
        for name, slope in reversed(list(zip(names, gradients, strict=True))):
            gradient: Tensor | None = slope  # torch says that there always is one
            if self._backward is None and gradient is not None and not _finite([gradient]):
                module = name.rpartition(".")[0]
                self._backward = Origin("backward", module, f"in the gradient of {name}")


def _finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(t.detach().isfinite().all()) for t in tensors)


def _silent(*_: Any, **__: Any) -> None:
    """Log nothing: what is run again has been logged."""
