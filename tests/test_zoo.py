"""What must hold for every model and every config: they find themselves here by being listed."""

import functools
import sys
import warnings

import numpy as np
import pytest
import torch
import yaml
from _quick_cells import quick_cells
from pytorch_lightning import Trainer

import pcgen
import pcgen.models
from pcgen.base import VERBS, GenerativeModel
from pcgen.chains import CodeInference, PersistentStart
from pcgen.cli.train import TrainCLI
from pcgen.corruptions import Compose, CutBall, GaussianNoise, SaltAndPepper
from pcgen.datamodules import MNIST, Shapes
from pcgen.datamodules.mnist import Images
from pcgen.errors import UnsupportedOperationError
from pcgen.losses import (
    BernoulliReconstruction,
    Capacity,
    CosineBeta,
    HingeLoss,
    LearnedScaleChamferReconstruction,
    NonSaturatingLoss,
    SquaredErrorReconstruction,
    WassersteinLoss,
)
from pcgen.models import (
    EBGAN,
    GAN,
    VAE,
    WAE,
    Autoencoder,
    BetaVAE,
    ClassAwareDeformingAutoencoder,
    CNNClassifier,
    DeformingAutoencoder,
    GenerativePointNet,
    LatentGAN,
    PointNetClassifier,
)
from pcgen.nets import (
    CNNDecoder,
    CNNEncoder,
    DecodedTemplate,
    DenseNetDecoder,
    DenseNetEncoder,
    Encoder,
    FoldingDecoder,
    GridDeformation,
    ImageMLPDecoder,
    ImageMLPEncoder,
    IntrinsicTemplate,
    LearnedTemplate,
    MLPDecoder,
    MLPEncoder,
    PointDeformation,
    PointNetEncoder,
    PointNetScore,
    ResNetDecoder,
    ResNetEncoder,
)
from pcgen.ops import MultiscaleInverseMultiquadratic

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)
HALVE = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)

CRITIC = functools.partial(PointNetEncoder, (8, 16), (8,), batch_norm=False)

CHAIN = {"num_points": 32, "steps": 3, "step_size": 0.1, "score_scale": 32.0, "inference": CodeInference(steps=2)}

# A small instance of every model, in every way of building it that changes what a checkpoint has to hold.
SMALL = {
    "VAE": lambda: VAE(PointNetEncoder((8, 16)), MLPDecoder(4, 32, (16,)), optimizer=ADAM, lr_scheduler=HALVE),
    "VAE-learned-scale": lambda: VAE(
        MLPEncoder(32, (16,)),
        FoldingDecoder(4, 32, width=8, depth=2, code_widths=(8,), extra_channels=3),
        LearnedScaleChamferReconstruction(),
        monte_carlo_samples=2,
        optimizer=ADAM,
    ),
    "PointNetClassifier": lambda: PointNetClassifier(
        PointNetEncoder((8, 16), (12,)), num_classes=3, optimizer=ADAM, lr_scheduler=HALVE
    ),
    "PointNetClassifier-transform": lambda: PointNetClassifier(
        PointNetEncoder((8, 16), (12,), input_transform=True), num_classes=3, dropout=0.0, optimizer=ADAM
    ),
    "Autoencoder": lambda: Autoencoder(PointNetEncoder((8, 16)), MLPDecoder(4, 32, (16,)), optimizer=ADAM),
    "Autoencoder-corruption": lambda: Autoencoder(
        PointNetEncoder((8, 16)),
        FoldingDecoder(4, 32, width=8, depth=2, code_widths=(8,)),
        corruption=Compose([CutBall(0.2, 0.4), GaussianNoise(0.02)]),
        optimizer=ADAM,
    ),
    "Autoencoder-images": lambda: Autoencoder(
        ImageMLPEncoder(widths=(8,)),
        ImageMLPDecoder(4, widths=(8,)),
        SquaredErrorReconstruction(sigmoid=True),
        SaltAndPepper(0.2),
        optimizer=ADAM,
    ),
    "BetaVAE": lambda: BetaVAE(
        PointNetEncoder((8, 16)), MLPDecoder(4, 32, (16,)), schedule=CosineBeta(8.0, 0.5, end_step=5), optimizer=ADAM
    ),
    "BetaVAE-capacity-images": lambda: BetaVAE(
        CNNEncoder(channels=(2, 4), head_widths=(8,), halving="stride"),
        CNNDecoder(4, channels=(4, 2), head_widths=(8,)),
        BernoulliReconstruction(),
        Capacity(0.0, 5.0, 10.0, end_step=6),
        optimizer=ADAM,
    ),
    "WAE": lambda: WAE(PointNetEncoder((8, 16)), MLPDecoder(4, 32, (16,)), optimizer=ADAM, lr_scheduler=HALVE),
    "WAE-images": lambda: WAE(
        CNNEncoder(channels=(2, 4), head_widths=(8,), halving="stride", batch_norm=False),
        CNNDecoder(4, channels=(4, 2), head_widths=(8,), batch_norm=False),
        SquaredErrorReconstruction(0.05),
        kernel=MultiscaleInverseMultiquadratic(),
        unbiased=True,
        optimizer=ADAM,
    ),
    "CNNClassifier": lambda: CNNClassifier(CNNEncoder(channels=(2, 4), head_widths=(8,)), optimizer=ADAM),
    "GAN": lambda: GAN(MLPDecoder(4, 32, (16,)), CRITIC(), NonSaturatingLoss(r1_weight=0.1), optimizer=ADAM),
    "GAN-wasserstein": lambda: GAN(
        MLPDecoder(4, 32, (16,)),
        CRITIC(),
        WassersteinLoss(),
        discriminator_steps=2,
        ema_decay=None,
        optimizer=ADAM,
        discriminator_optimizer=functools.partial(torch.optim.RMSprop, lr=1e-3),
        lr_scheduler=HALVE,
    ),
    "GAN-images": lambda: GAN(
        CNNDecoder(4, channels=(4, 2), head_widths=(8,)),
        CNNEncoder(channels=(2, 4), head_widths=(8,), halving="stride", batch_norm=False, negative_slope=0.2),
        HingeLoss(),
        spectral_norm=True,
        optimizer=ADAM,
    ),
    "LatentGAN": lambda: LatentGAN(SMALL["Autoencoder"](), (8,), (8,), noise_dim=4, optimizer=ADAM, lr_scheduler=HALVE),
    "LatentGAN-images": lambda: LatentGAN(
        SMALL["BetaVAE-capacity-images"](), (8,), (8,), 4, WassersteinLoss(), discriminator_steps=3, optimizer=ADAM
    ),
    "EBGAN": lambda: EBGAN(
        MLPDecoder(4, 32, (16,)),
        CRITIC(),
        MLPDecoder(5, 32, (16,), batch_norm=False),
        warmup_steps=1,
        optimizer=ADAM,
        lr_scheduler=HALVE,
    ),
    "EBGAN-images": lambda: EBGAN(
        ImageMLPDecoder(4, widths=(8,)),
        ImageMLPEncoder(widths=(8,)),
        ImageMLPDecoder(3, widths=(8,)),
        SquaredErrorReconstruction(sigmoid=True),
        margin=20.0,
        warmup_steps=0,
        ema_decay=None,
        optimizer=ADAM,
    ),
    "GenerativePointNet": lambda: GenerativePointNet(
        PointNetScore((8, 16), (8,)), **CHAIN, energy_weight=0.01, optimizer=ADAM, lr_scheduler=HALVE
    ),
    "GenerativePointNet-persistent": lambda: GenerativePointNet(
        PointNetScore((8, 16), (8,), norm="paper", num_points=32),
        **CHAIN,
        start=PersistentStart(20),
        noise_decay=True,
        noise_end=50,
        energy_weight=0.01,
        optimizer=ADAM,
    ),
    "DeformingAutoencoder": lambda: DeformingAutoencoder(
        PointNetEncoder((8, 16)),
        DecodedTemplate(MLPDecoder(2, 32, (8,))),
        PointDeformation(_field(4), steps=2, neighbors=4),
        optimizer=ADAM,
        lr_scheduler=HALVE,
    ),
    "DeformingAutoencoder-learned": lambda: DeformingAutoencoder(
        PointNetEncoder((8, 16)), LearnedTemplate((32, 3)), PointDeformation(_field(4)), optimizer=ADAM
    ),
    "DeformingAutoencoder-images": lambda: DeformingAutoencoder(
        ResNetEncoder(channels=(2, 4)),
        DecodedTemplate(ResNetDecoder(2, channels=(4, 2))),
        GridDeformation(ResNetDecoder(3, (2, 28, 28), channels=(4, 2))),
        optimizer=ADAM,
    ),
    "DeformingAutoencoder-intrinsic-images": lambda: DeformingAutoencoder(
        DenseNetEncoder(channels=(2, 4), growth=2, layers=2),
        IntrinsicTemplate(DenseNetDecoder(2, channels=(4, 2), growth=2, layers=2), CNNDecoder(2, channels=(2,))),
        GridDeformation(CNNDecoder(3, (2, 28, 28), (4, 2), (8,)), affine=False),
        optimizer=ADAM,
    ),
    "ClassAwareDeformingAutoencoder-images": lambda: ClassAwareDeformingAutoencoder(
        ResNetEncoder(channels=(2, 4)),
        DecodedTemplate(ImageMLPDecoder(4, widths=(8,))),
        GridDeformation(ResNetDecoder(5, (2, 28, 28), channels=(4, 2))),
        class_dim=3,
        optimizer=ADAM,
        lr_scheduler=HALVE,
    ),
}


def _field(latent_dim):
    return FoldingDecoder(latent_dim, 32, width=8, depth=2, code_widths=(8,), frequencies=1)


every_model = pytest.mark.parametrize("name", SMALL)


class Digits(MNIST):
    """Noise in the place of MNIST's images."""

    def prepare_data(self):
        pass

    def _read(self, prefix):
        K = {"train": 50, "t10k": 17}[prefix]
        pixels = np.random.default_rng(K).integers(0, 256, (K, 28, 28), dtype=np.uint8)
        return Images(pixels, np.arange(K) % 10)


def data(name):
    if name.startswith("CNN") or name.endswith("images"):
        return Digits(batch_size=16)
    sizes = {"num_points": 32, "train_size": 40, "val_size": 16, "test_size": 17, "stored_points": 64}
    return Shapes(**sizes, batch_size=16, resample=True, classes=["chair", "table", "lamp"])


def answer(model):
    """What a model says, for comparing two of them."""
    if model.can("sample"):
        return model.sample(3, generator=seeded())
    if model.can("decode"):
        return model.decode(torch.randn(3, model.latent_dim, generator=seeded()))
    return model.classify(torch.rand(3, *data(type(model).__name__).sample_shape, generator=seeded()))


def trainer(folder, **options) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", default_root_dir=folder, **(quiet | {"max_epochs": 1} | options))


def fit(name, folder, **options) -> Trainer:
    torch.manual_seed(0)
    model = SMALL[name]()
    runner = trainer(folder, **options)
    runner.fit(model, data(name))
    return runner


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_every_model_has_a_small_instance():
    assert {name.split("-")[0] for name in SMALL} == set(pcgen.models.__all__)


@every_model
def test_fit_checkpoint_load_and_the_same_answer(name, tmp_path):
    runner = fit(name, tmp_path)
    model = runner.lightning_module.eval()
    loaded = pcgen.load(runner.checkpoint_callback.best_model_path)
    assert torch.equal(answer(loaded), answer(model))
    assert loaded.card()["model"] == model.card()["model"]


def test_validating_more_often_does_not_change_the_training(tmp_path):
    seldom = fit("VAE", tmp_path / "a", max_epochs=2, check_val_every_n_epoch=2).lightning_module.state_dict()
    often = fit("VAE", tmp_path / "b", max_epochs=2, val_check_interval=1).lightning_module.state_dict()
    assert all(torch.equal(seldom[key], often[key]) for key in seldom)


def test_the_noise_of_a_step_depends_on_seed_process_step_and_stage(tmp_path):
    runner = fit("VAE", tmp_path)
    model = runner.lightning_module.train()

    def noise(batch_idx=0):
        return torch.randn(8, generator=model.step_generator(batch_idx))

    first = noise()
    assert torch.equal(noise(), first)
    others = [noise(1)]
    model.eval()
    others.append(noise())
    model.train()
    model.noise_seed += 1
    others.append(noise())
    model.noise_seed -= 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(runner), "global_rank", 1)
        others.append(noise())
    assert not any(torch.equal(first, other) for other in others)
    assert torch.equal(noise(), first)


@every_model
def test_verbs_do_what_can_says(name):
    model = SMALL[name]()
    x, z = torch.rand(2, *data(name).sample_shape), torch.randn(2, model.latent_dim or 1)
    arguments = {"sample": (2,), "prior": (2,), "encode": (x,), "decode": (z,), "reconstruct": (x,),
                 "interpolate": (x, x, 3), "posterior": (x,), "features": (x,), "energy": (x,),
                 "trajectory": (2, 3), "classify": (x,), "decompose": (z,)}  # fmt: skip
    for verb in VERBS:
        if model.can(verb):
            given = getattr(model, verb)(*arguments[verb])
            assert all(torch.isfinite(part).all() for part in tensors(given))
        else:
            with pytest.raises(UnsupportedOperationError, match="models that can"):
                getattr(model, verb)(*arguments[verb])


def tensors(given):
    """All tensors of what a verb gives: one, several, or several with names."""
    if torch.is_tensor(given):
        return [given]
    return [tensor for part in (given.values() if isinstance(given, dict) else given) for tensor in tensors(part)]


def test_a_model_without_a_verb_names_those_that_have_it():
    class Mute(GenerativeModel):
        pass

    assert not any(Mute.can(verb) for verb in VERBS)
    with pytest.raises(UnsupportedOperationError, match=r"Mute cannot encode; models that can: .*VAE"):
        Mute().encode(torch.zeros(1, 2, 3))
    with pytest.raises(UnsupportedOperationError, match="Mute cannot sample"):
        Mute().sample(1)
    with pytest.raises(UnsupportedOperationError, match=r"Mute has no features; .*: .*PointNetClassifier"):
        Mute().features(torch.zeros(1, 2, 3))


@every_model
def test_codes_do_not_depend_on_the_order_of_the_points_unless_the_encoder_says_so(name):
    model = SMALL[name]()
    x = torch.rand(4, *data(name).sample_shape)
    if x.ndim > 3:
        pytest.skip("an image has no points")
    code = model.encode if model.can("encode") else model.features
    same = torch.allclose(code(x), code(x[:, torch.randperm(32)]), atol=1e-5)
    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    assert same == (encoders[0].permutation_invariant if encoders else True)  # an energy's codes match points


@every_model
def test_two_steps_change_every_parameter(name, tmp_path):
    # The first gives an input transform, which begins as the identity, something to hand gradients through.
    torch.manual_seed(0)
    fresh = SMALL[name]()
    before = {k: v.clone() for k, v in fresh.named_parameters()}
    runner = fit(name, tmp_path, max_steps=2 * getattr(fresh, "discriminator_steps", 1))
    after = dict(runner.lightning_module.named_parameters())
    # A frozen autoencoder stays, and where a score's zero is means nothing to Wasserstein, nor to hinges all active.
    kept = {k for k in before if torch.equal(before[k], after[k])} - {"discriminator.head.bias"}
    assert kept == {k for k in before if k.startswith("autoencoder.")}


# ── configs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def configs():
    import pathlib

    return sorted(pathlib.Path(pcgen.models.__file__).parents[1].glob("configs/*.yaml"))


# What makes a config small enough for a test, and its data those that the test makes.
SIZES = ["--data.train_size=24", "--data.val_size=8", "--data.test_size=8", "--data.batch_size=8"]
SHRINK = {"Shapes": SIZES, "Dots": SIZES, "Patterns": SIZES}


@pytest.mark.parametrize("config", configs(), ids=lambda p: p.stem)
def test_every_config_parses_builds_and_takes_a_step(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pcgen"])
    monkeypatch.delenv("PCGEN_RUN_FOLDER", raising=False)
    content = yaml.safe_load(config.read_text())
    kind = content["data"]["class_path"]
    if kind == "MNIST":
        monkeypatch.setattr(MNIST, "prepare_data", Digits.prepare_data)
        monkeypatch.setattr(MNIST, "_read", Digits._read)
        options = ["--data.batch_size=4"]
    else:
        options = SHRINK.get(kind) or [f"--data.path={_make_clouds(tmp_path, content)}", "--data.batch_size=4"]
    if content["model"]["class_path"] == "LatentGAN":
        options = [*options, f"--model.autoencoder={_make_autoencoder(tmp_path, kind, content)}"]
    if content["model"]["class_path"] == "GenerativePointNet":  # a published chain takes a CPU minutes
        options = [*options, *_short_chains(content)]
    words = ["fit", "--config", str(config), *options, "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"]
    with warnings.catch_warnings(), quick_cells():
        warnings.filterwarnings("error", message="no picture")  # in a training that is a warning; here it is a fault
        cli = TrainCLI("fit", words)
    assert cli.trainer.global_step == 1
    assert config.read_text().startswith("# ")


def _short_chains(content):
    """Options for chains of two steps on clouds of 32 points."""
    published = content["model"]["init_args"]["score"]["init_args"].get("norm") == "paper"
    sizes = ["--model.steps=2", "--model.num_points=32", "--data.num_points=32"]
    return [*sizes, "--model.score.num_points=32"] if published else sizes


def _make_autoencoder(folder, kind, content):
    """The checkpoint of a small autoencoder of a config's data."""
    if kind == "MNIST":
        model = Autoencoder(ImageMLPEncoder(widths=(8,)), ImageMLPDecoder(4, widths=(8,)), SquaredErrorReconstruction())
    else:
        num_points = content["data"]["init_args"]["num_points"]
        model = Autoencoder(PointNetEncoder((8, 16)), MLPDecoder(4, num_points, (16,)))
    runner = trainer(folder)
    runner.strategy.connect(model)
    runner.save_checkpoint(folder / "autoencoder.ckpt")
    return folder / "autoencoder.ckpt"


def _make_clouds(folder, content):
    """An HDF5 file with what the config asks for, made of random boxes."""
    from pcgen.io import CloudSet, write_clouds

    probes = any(callback["class_path"] == "LinearProbe" for callback in content["trainer"]["callbacks"])
    number = content["model"]["init_args"].get("num_classes", 2 if probes else 1)
    arguments = [callback.get("init_args", {}) for callback in content["trainer"]["callbacks"]]
    foreign = [name for given in arguments for name in given.get("foreign", ())]
    classes = (*(content["data"]["init_args"].get("classes") or [f"class {i}" for i in range(number)]), *foreign)
    rng = np.random.default_rng(0)
    K, N = 24 * len(classes), 2048
    points = rng.random((K, N, 3)) * rng.uniform(0.5, 1.5, (K, 1, 3))
    split = np.resize(["train"] * 4 + ["test"] * 2, K)
    label = np.arange(K) % len(classes)
    write_clouds(folder / "clouds.h5", CloudSet(points, label, split, class_names=classes, up_axis=2))
    return folder / "clouds.h5"
