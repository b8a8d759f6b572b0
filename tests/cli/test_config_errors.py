"""A typing error gets one line with the key, the value and the nearest right name, whatever the parser said."""

import pytest

BASE = ["--model", "VAE", "--data", "Shapes"]

OPTIONS = {
    "unknown option of the trainer": (["--trainer.max_epocs", 1], ["--trainer.max_epocs", "'trainer.max_epochs'"]),
    "misspelt section": (["--trianer.max_epochs", 1], ["--trianer.max_epochs", "'trainer.max_epochs'"]),
    "a word for a number": (["--trainer.max_epochs", "abc"], ["trainer.max_epochs", "abc", "an int"]),
    "a fraction for a number": (["--trainer.max_epochs=1.5"], ["trainer.max_epochs", "1.5", "an int"]),
    "unknown option of a model": (["--model.encodr", "PointNetEncoder"], ["VAE", "'encodr'", "'encoder'"]),
    "unknown network": (
        ["--model.encoder", "PointNetEncodr"],
        ["model.encoder", "'PointNetEncodr'", "'PointNetEncoder'"],
    ),
    "network of another kind": (["--model.encoder", "MLPDecoder"], ["model.encoder", "'MLPDecoder'", "'MLPEncoder'"]),
    "unknown option of a network": (
        ["--model.encoder", "PointNetEncoder", "--model.encoder.width", "[1]"],
        ["PointNetEncoder", "model.encoder", "'width'", "'widths'"],
    ),
    "a word for a list": (
        ["--model.encoder", "PointNetEncoder", "--model.encoder.widths", "abc"],
        ["model.encoder.widths", "abc", "a list"],
    ),
    "words in a list of numbers": (
        ["--model.encoder", "PointNetEncoder", "--model.encoder.widths", "[a,b]"],
        ["model.encoder.widths", "an int", "got a"],
    ),
    "unknown option of the data": (["--data.train_sise", 3], ["Shapes", "'train_sise'", "'train_size'"]),
    "a word for a number in the data": (["--data.train_size", "many"], ["data.train_size", "many", "an int"]),
    "unknown class of shapes": (["--data.classes", "[chiar]"], ["'chiar'", "chair", "table"]),
    "unknown optimizer": (["--model.optimizer", "Adm"], ["model.optimizer", "'Adm'", "'Adam'"]),
    "unknown option of an optimizer": (
        ["--model.optimizer", "Adam", "--model.optimizer.lrr", 1],
        ["Adam", "model.optimizer", "'lrr'", "'lr'"],
    ),
    "a word for a learning rate": (
        ["--model.optimizer", "Adam", "--model.optimizer.lr", "fast"],
        ["model.optimizer.lr", "fast", "a float"],
    ),
    "an impossible learning rate": (
        ["--model.optimizer", "Adam", "--model.optimizer.lr", -1],
        ["model.optimizer", "learning rate", "-1"],
    ),
    "a schedule without what it needs": (
        ["--model.lr_scheduler", "StepLR"],
        ["model.lr_scheduler.step_size", "missing", "StepLR"],
    ),
    "unknown option of a schedule": (
        ["--model.lr_scheduler", "CosineAnnealingLR", "--model.lr_scheduler.Tmax", 3],
        ["CosineAnnealingLR", "'Tmax'", "'T_max'"],
    ),
    "unknown callback": (["--trainer.callbacks", "Samplse"], ["trainer.callbacks", "'Samplse'", "'Samples'"]),
    "unknown option of a callback": (
        ["--trainer.callbacks", "Samples", "--trainer.callbacks.num_sample", 3],
        ["Samples", "trainer.callbacks", "'num_sample'", "'num_samples'"],
    ),
    "unknown logger": (["--trainer.logger", "TensorBordLogger"], ["trainer.logger", "'TensorBoardLogger'"]),
    "a logger without its folder": (
        ["--trainer.logger", "TensorBoardLogger"],
        ["trainer.logger.save_dir", "missing", "TensorBoardLogger", "the run's folder"],
    ),
    "unknown option of a logger": (
        ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dirr", "x"],
        ["CSVLogger", "'save_dirr'", "'save_dir'"],
    ),
    "unknown accelerator": (["--trainer.accelerator", "gpus"], ["trainer", "gpus", "cpu"]),
    "unknown strategy": (["--trainer.strategy", "ddpp"], ["trainer", "ddpp"]),
    "unknown precision": (["--trainer.precision", 15], ["trainer.precision", "15", "16", "bf16-mixed"]),
    "no devices": (["--trainer.devices", 0], ["trainer", "devices"]),
    "unknown way of clipping": (["--trainer.gradient_clip_algorithm", "foo"], ["trainer", "foo", "norm"]),
    "missing config": (["--config", "nothere.yaml"], ["nothere.yaml", "quickstart.yaml"]),
    "an option without its value": (["--name"], ["--name", "expected one argument"]),
    "a stray word": (["stray"], ["stray"]),
    "a number out of range": (["--model.monte_carlo_samples", 0], ["monte_carlo_samples is 0"]),
    "parts that do not fit": (
        ["--model.reconstruction", "LearnedScaleChamferReconstruction"],
        ["LearnedScaleChamferReconstruction", "extra_channels 3"],
    ),
    "a word for the seed": (["--seed_everything", "abc"], ["seed_everything", "abc", "an int"]),
    "missing checkpoint": (["--ckpt_path", "nothere.ckpt"], ["nothere.ckpt"]),
    "a number for a section": (["--trainer", 5], ["trainer", "5"]),
    "help on an unknown model": (["--model.help", "VEA"], ["model", "'VEA'", "'VAE'"]),
}


@pytest.mark.parametrize(("words", "parts"), OPTIONS.values(), ids=OPTIONS)
def test_an_option(cli, words, parts):
    error = cli("fit", *BASE, *words).error
    assert [part for part in parts if part not in error] == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["fit", "--model", "VEA", "--data", "Shapes"], ["model", "'VEA'", "'VAE'"]),
        (["fit", "--model", "Shapes", "--data", "Shapes"], ["model", "'Shapes'", "VAE"]),
        (["fit", "--data", "Shapes"], ["model is missing", "--model", "VAE"]),
        (["fit", "--model", "VAE"], ["data is missing", "--data", "ModelNet, Patterns, PointClouds, Shapes"]),
        (["fit", "--model", "VAE", "--data", "PointClouds"], ["data.path", "missing", "PointClouds"]),
        (["fit", "--model", "VAE", "--data", "PointClouds", "--data.path", "nothere.h5"], ["nothere.h5", "not exist"]),
        (["fit", "--config"], ["--config", "expected one argument"]),
        (["validate", *BASE, "--ckpt_path", "nothere.ckpt"], ["nothere.ckpt"]),
        (["test", *BASE, "--verbosse", "1"], ["--verbosse", "'verbose'"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in {"fit", "validate", "test"} else "",
)
def test_a_command(cli, words, parts):
    error = cli(*words).error
    assert [part for part in parts if part not in error] == []


CONFIGS = {
    "misspelt init_args": (
        "model: {class_path: VAE, init_arg: {encoder: null}}",
        ["model", "'init_arg'", "'init_args'"],
    ),
    "arguments beside class_path": ("model: {class_path: VAE, encoder: PointNetEncoder}", ["model", "init_args"]),
    "class that a module lacks": ("model: {class_path: pcgen.models.VAE2}", ["model", "pcgen.models.VAE2", "'VAE'"]),
    "misspelt section": ("modle: {class_path: VAE}", ["'modle.class_path'", "'model'"]),
    "misspelt key of the trainer": ("trainer: {max_epoch: 3}", ["'trainer.max_epoch'", "'trainer.max_epochs'"]),
    "a word for a number": ("trainer: {max_epochs: three}", ["trainer.max_epochs", "three", "an int"]),
    "misspelt key deep down": (
        "model: {class_path: VAE, init_args: {encoder: {class_path: PointNetEncoder, init_args: {width: [3]}}}}",
        ["PointNetEncoder", "model.encoder", "'width'", "'widths'"],
    ),
    "a word for a number deep down": (
        "model: {class_path: VAE, init_args: {decoder: {class_path: MLPDecoder, init_args: {latent_dim: big}}}}",
        ["model.decoder.latent_dim", "big", "an int"],
    ),
    "misspelt optimizer": (
        "model: {class_path: VAE, init_args: {optimizer: {class_path: Adamm}}}",
        ["model.optimizer", "'Adamm'", "'Adam'"],
    ),
    "option that an optimizer lacks": (
        "model: {class_path: VAE, init_args: {optimizer: {class_path: Adam, init_args: {learning_rate: 0.1}}}}",
        ["Adam", "model.optimizer", "'learning_rate'", "lr, betas"],
    ),
    "schedule without what it needs": (
        "model: {class_path: VAE, init_args: {lr_scheduler: {class_path: CosineAnnealingLR}}}",
        ["model.lr_scheduler.T_max", "missing"],
    ),
    "misspelt callback in a list": (
        "trainer: {callbacks: [{class_path: Samples}, {class_path: Reconstrucions}]}",
        ["trainer.callbacks", "'Reconstrucions'", "'Reconstructions'"],
    ),
    "misspelt option of a callback in a list": (
        "trainer: {callbacks: [{class_path: Samples}, {class_path: ModelCheckpoint, init_args: {monitr: val/elbo}}]}",
        ["ModelCheckpoint", "'monitr'", "'monitor'"],
    ),
    "misspelt logger in a list": (
        "trainer: {logger: [{class_path: CSVLogger}, {class_path: WandbLoger}]}",
        ["trainer.logger", "'WandbLoger'", "'WandbLogger'"],
    ),
    "misspelt augmentation": (
        "data: {class_path: Shapes, init_args: {augment: [{class_path: Jiter}]}}",
        ["data.augment", "'Jiter'", "'Jitter'"],
    ),
    "misspelt option of an augmentation": (
        "data: {class_path: Shapes, init_args: {augment: [{class_path: Jitter, init_args: {sdt: 1}}]}}",
        ["Jitter", "data.augment", "'sdt'", "'std'"],
    ),
    "a number out of range": ("data: {class_path: Shapes, init_args: {batch_size: 0}}", ["batch_size is 0"]),
}


@pytest.mark.parametrize(("text", "parts"), CONFIGS.values(), ids=CONFIGS)
def test_a_config(cli, tmp_path, text, parts):
    (tmp_path / "experiment.yaml").write_text(text)
    error = cli("fit", *BASE, "--config", "experiment.yaml").error
    assert [part for part in parts if part not in error] == []


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"model: VAE\n  data: [\n", ["bad.yaml", "line 2", "not YAML"]),
        (b"model: {class_path: VAE\n", ["bad.yaml", "not YAML"]),
        (b"- a\n- b\n", ["bad.yaml", "no sections"]),
        (b"", ["bad.yaml", "no sections"]),
        (b"\x80\x02\x00", ["bad.yaml", "text"]),
    ],
    ids=["indentation", "bracket", "list", "empty", "binary"],
)
def test_a_file_that_is_no_config(cli, tmp_path, content, parts):
    (tmp_path / "bad.yaml").write_bytes(content)
    for words in (["--config", "bad.yaml"], ["--config=bad.yaml"], ["-c", "bad.yaml"]):
        error = cli("fit", *words).error
        assert [part for part in parts if part not in error] == []


def test_bad_input_leaves_no_run_behind(cli, tmp_path):
    cli("fit", "--model", "VAE", "--data", "PointClouds", "--data.path", "nothere.h5")
    assert list(tmp_path.iterdir()) == []
