"""Two processes under the plain strategy `ddp`: one model, and steps by the mean of both shares' gradients."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F

HALVE = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
SGD = functools.partial(torch.optim.SGD, lr=0.05)

# Model, its arguments and the trainer's.
CASES = {
    "one-step": ("GAN", {"optimizer": SGD}, {"max_steps": 1}),
    "GAN": ("GAN", {"discriminator_steps": 2, "lr_scheduler": HALVE}, {"max_epochs": 3}),
    "GAN-without-average": ("GAN", {"ema_decay": None}, {"max_steps": 4, "accumulate_grad_batches": 2}),
    "LatentGAN": ("LatentGAN", {}, {"gradient_clip_val": 0.1}),
    "EBGAN": ("EBGAN", {"warmup_steps": 1, "discriminator_steps": 2}, {}),
}

SCRIPT = """
import copy, sys
sys.path.insert(0, sys.argv[1])
import torch
import conftest, test_adversarial_distributed as cases

class Spied:
    def __init__(self, function):
        self.function, self.given = function, []

    def __call__(self, *arguments, **others):
        self.given.append(self.function(*arguments, **others))
        return self.given[-1]

for name, (kind, arguments, options) in cases.CASES.items():
    model = conftest.adversary(kind, **arguments)
    start = copy.deepcopy(model.state_dict())
    model.noise, model.real = Spied(model.noise), Spied(model.real)
    runner = conftest.quiet_trainer(sys.argv[2], devices=2, strategy="ddp", **options)
    runner.fit(model, conftest.clouds())
    result = {"start": start, "end": model.state_dict(), "noise": model.noise.given, "x": model.real.given,
              "steps": runner.global_step, "ddp": runner.strategy._ddp_kwargs, "world": runner.world_size,
              "logged": runner.callback_metrics}
    torch.save(result, f"{sys.argv[2]}/{name}-{runner.global_rank}.pt")
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory, on_two):
    """What either process had in the end, by the case's name."""
    saved = on_two(SCRIPT, tmp_path_factory.mktemp("two"))
    return {name: saved(name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_both_processes_end_with_one_model_that_has_learned(name, both):
    a, b = both[name]
    assert a["world"] == b["world"] == 2
    assert "find_unused_parameters" not in a["ddp"]
    assert a["steps"] == b["steps"] > 0
    assert [key for key, value in a["end"].items() if not torch.equal(value, b["end"][key])] == []
    assert [key for key, value in a["start"].items() if not torch.equal(value, b["start"][key])] == []
    changed = {key.split(".")[0] for key, value in a["end"].items() if not torch.equal(value, a["start"][key])}
    players = {"generator", "discriminator", "generator_steps"} | (
        {"average"} if "average.updates" in a["end"] else set()
    )
    assert players <= changed
    assert "autoencoder" not in changed
    assert a["logged"].keys() == b["logged"].keys()
    assert all(a["logged"][key] == b["logged"][key] for key in a["logged"] if "/" in key and "val/" not in key)


@pytest.mark.parametrize("name", CASES)
def test_the_processes_have_shares_and_noise_of_their_own(name, both):
    a, b = both[name]
    assert not torch.equal(a["x"][0], b["x"][0])
    assert not torch.equal(a["noise"][0], b["noise"][0])


def test_a_step_is_by_the_mean_gradient_of_both_shares(both, adversary):
    """Computed again in one process, with the networks alone, from the data and the noise that either had."""
    ranks = both["one-step"]
    model = adversary("GAN", **CASES["one-step"][1])
    model.load_state_dict(ranks[0]["start"])
    ones, gradients = [copy.deepcopy(model).train() for _ in ranks], []
    for rank, one in zip(ranks, ones, strict=True):  # the discriminator's turn
        fake = one.generator(rank["noise"][0]).detach()
        loss = F.softplus(-one.discriminator(rank["x"][0])).mean() + F.softplus(one.discriminator(fake)).mean()
        gradients.append(torch.autograd.grad(loss, list(one.discriminator.parameters())))
    share_statistics(*(one.generator for one in ones))
    for one in ones:
        step(one.discriminator, gradients)
    gradients = []
    for rank, one in zip(ranks, ones, strict=True):  # the generator's
        loss = F.softplus(-one.discriminator(one.generator(rank["noise"][1]))).mean()
        gradients.append(torch.autograd.grad(loss, list(one.generator.parameters())))
    share_statistics(*(one.generator for one in ones))
    step(ones[0].generator, gradients)
    for player in ("generator", "discriminator"):
        for key, value in getattr(ones[0], player).state_dict().items():
            torch.testing.assert_close(ranks[0]["end"][f"{player}.{key}"], value, rtol=1e-5, atol=1e-7, msg=key)


def step(network, gradients):
    with torch.no_grad():
        for parameter, *each in zip(network.parameters(), *gradients, strict=True):
            parameter.sub_(0.05 * sum(each) / 2)


def share_statistics(one, other):
    with torch.no_grad():
        for a, b in zip(one.buffers(), other.buffers(), strict=True):
            if a.is_floating_point():
                a.copy_((a + b) / 2)
                b.copy_(a)
