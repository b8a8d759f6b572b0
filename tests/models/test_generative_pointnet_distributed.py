"""Two processes under the plain strategy `ddp` that train one energy: together they roll back, each with its chains."""

import functools

import pytest
import torch

from pcgen.chains import PersistentStart

SGD = functools.partial(torch.optim.SGD, lr=0.01)
CASES = {
    "one-step": {"optimizer": SGD, "jitter": 0.0},
    "persistent": {"start": lambda: PersistentStart(9, 0.1)},
    "rollback": {},
    "gradient": {},
}

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from pytorch_lightning import Callback
from pcgen.chains import DivergenceGuard
import conftest, test_generative_pointnet_distributed as cases

class Unlucky(Callback):
    '''In the second process alone, at step 2, chains diverge once, and at step 4 as often as they are run.'''

    def __init__(self):
        self.calls = []

    def on_train_start(self, trainer, model):
        chain = model.chain

        def spoiled(x, *, generator):
            ends, step = chain(x, generator=generator), trainer.global_step
            self.calls.append(step)
            again = self.calls.count(step)
            bad = trainer.global_rank == 1 and ((step == 2 and again == 1) or (step == 4 and again <= 3))
            return ends * 9 if bad else ends

        model.chain = spoiled

class Poison(Callback):
    def on_after_backward(self, trainer, model):
        if trainer.global_step == 3:
            next(model.parameters()).grad.fill_(float("nan"))

for name, arguments in cases.CASES.items():
    arguments = arguments | ({"start": arguments["start"]()} if "start" in arguments else {})
    model = conftest.energy_model(guard=DivergenceGuard(resamples=2, keep_every=2), **arguments)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    seen, terms = [], model.terms
    model.terms = lambda x, fake: seen.append((x, fake)) or terms(x, fake)
    unlucky = Unlucky()
    callbacks = {"rollback": [unlucky], "gradient": [Poison()]}.get(name, [])
    options = {"max_steps": 1} if name == "one-step" else {"max_epochs": 2}
    runner = conftest.quiet_trainer(sys.argv[2], devices=2, strategy="ddp", callbacks=callbacks, limit_val_batches=0,
                                    **options)
    runner.fit(model, conftest.clouds())
    result = {"start": start, "end": model.state_dict(), "seen": seen, "steps": runner.global_step,
              "history": [list(fault) for fault in model.guard.history], "calls": unlucky.calls,
              "logged": runner.callback_metrics}
    torch.save(result, f"{sys.argv[2]}/{name}-{runner.global_rank}.pt")
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory, on_two):
    """What either process had in the end, by the case's name."""
    saved = on_two(SCRIPT, tmp_path_factory.mktemp("two"))
    return {name: saved(name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_both_processes_end_with_one_energy(name, both):
    a, b = both[name]
    assert a["steps"] == b["steps"] == (1 if name == "one-step" else 6)
    score = [key for key in a["end"] if key.startswith("score.")]
    assert [key for key in score if not torch.equal(a["end"][key], b["end"][key])] == []
    assert not all(torch.equal(a["end"][key], a["start"][key]) for key in score)
    assert all(torch.isfinite(a["end"][key]).all() for key in score)
    assert a["logged"].keys() == b["logged"].keys()
    assert all(a["logged"][key] == b["logged"][key] for key in a["logged"] if key.startswith("train/"))


def test_a_step_is_by_the_mean_gradient_of_both_shares(both, energy_model):
    ranks = both["one-step"]
    assert not torch.equal(*(rank["seen"][0][0] for rank in ranks))
    assert not torch.equal(*(rank["seen"][0][1] for rank in ranks))
    model = energy_model()
    model.load_state_dict(ranks[0]["start"])
    parameters = dict(model.score.named_parameters())
    losses = [16 * (model.score(fake).mean() - model.score(x).mean()) for x, fake in (r["seen"][0] for r in ranks)]
    slopes = torch.autograd.grad(sum(losses) / 2, list(parameters.values()))
    for (name, old), slope in zip(parameters.items(), slopes, strict=True):
        torch.testing.assert_close(ranks[0]["end"][f"score.{name}"], old.detach() - 0.01 * slope, rtol=1e-4, atol=1e-6)


def test_each_process_keeps_chains_of_its_own(both):
    a, b = both["persistent"]
    for rank in (a, b):
        kept, last = rank["end"]["start.chains"], rank["seen"][-1][1]
        assert rank["end"]["start.filled"].any()
        assert all((kept == end).all((1, 2)).any() for end in last)  # the last step's ends are all there
    chains = [rank["end"]["start.chains"][rank["end"]["start.filled"]] for rank in (a, b)]
    assert not any((chains[0] == chain).all((1, 2)).any() for chain in chains[1])


def test_they_resample_and_roll_back_together(both):
    a, b = both["rollback"]
    assert a["calls"] == b["calls"] == [0, 1, 2, 2, 3, 4, 4, 4, 4, 5]
    assert (a["logged"]["train/resamples"], a["logged"]["train/rollbacks"]) == (2, 1)  # of the second epoch; of all
    for rank in (a, b):
        (unlucky, bad) = rank["history"]
        assert [unlucky[0], *unlucky[2:]] == [2, 1, -1]
        assert [bad[0], *bad[2:]] == [4, 2, 3]  # step 2's state was not kept, for its chains had to be run again
    assert {fault[1] for fault in a["history"]} == {"chains of another process diverge"}
    assert all("variance" in fault[1] for fault in b["history"])


def test_a_bad_gradient_is_everyones(both):
    a, b = both["gradient"]
    assert a["history"] == b["history"] == [[4, "the gradient is not finite", 0, 2]]
