"""The energy model on a GPU beside the CPU: where noise is drawn, and that all comes to where the weights are."""

import pytest
import torch

from pcgen.chains import PersistentStart

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_a_fit_and_every_verb(fit, energy_model):
    model = energy_model(start=PersistentStart(num_chains=16))
    fit(model, accelerator="gpu", devices=1, max_steps=2)
    model.cuda()
    for device in ("cpu", "cuda"):
        clouds = [model.sample(3, generator=torch.Generator(device).manual_seed(0)) for _ in range(2)]
        assert torch.equal(*clouds)
        assert clouds[0].device.type == "cuda"
    x = clouds[0].cpu()
    for found in (model.reconstruct(x), model.energy(x), model.features(x), model.trajectory(2, 3)):
        assert found.device.type == "cuda"
        assert torch.isfinite(found).all()


def test_the_chain_without_noise_comes_to_the_same_place(energy_model):
    model = energy_model()
    z = model.prior(4, generator=torch.Generator().manual_seed(0))
    there = model.decode(z)
    torch.testing.assert_close(model.cuda().decode(z.cuda()).cpu(), there, rtol=1e-3, atol=1e-4)
