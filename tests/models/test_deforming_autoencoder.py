"""Deforming autoencoders: the objective, what a code is made of, and that they find warps that nobody told them."""

import functools

import pytest
import torch

from pcgen.base import Batch
from pcgen.datamodules import Patterns
from pcgen.errors import ConfigurationError, DataError, UnsupportedOperationError
from pcgen.losses import (
    AbsoluteErrorReconstruction,
    BernoulliReconstruction,
    GaussianReconstruction,
    SquaredErrorReconstruction,
)
from pcgen.models import Autoencoder, ClassAwareDeformingAutoencoder, DeformingAutoencoder
from pcgen.nets import (
    DecodedTemplate,
    FoldingDecoder,
    GridDeformation,
    ImageMLPDecoder,
    ImageMLPEncoder,
    IntrinsicTemplate,
    LearnedTemplate,
    MLPDecoder,
    PointDeformation,
    PointNetEncoder,
)
from pcgen.ops import chamfer_distance, identity_grid, warp_images

SHAPE = (3, 8, 8)
ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def decoder(latent_dim, channels):
    return ImageMLPDecoder(latent_dim, (channels, *SHAPE[1:]), (8,), batch_norm=False)


def field(latent_dim):
    return FoldingDecoder(latent_dim, 20, width=8, depth=2, code_widths=(8,), frequencies=1, batch_norm=False)


TEMPLATES = {
    "decoded": lambda more: DecodedTemplate(decoder(2 + more, 3)),
    "intrinsic": lambda more: IntrinsicTemplate(decoder(2 + more, 3), decoder(1 + more, 1)),
    "learned": lambda more: LearnedTemplate(SHAPE),
    "cloud": lambda more: DecodedTemplate(MLPDecoder(2 + more, 20, (8,), batch_norm=False)),
    "learned-cloud": lambda more: LearnedTemplate((20, 3)),
}
PARTS = {
    "decoded": {"shape": 4, "appearance": 2},
    "intrinsic": {"shape": 4, "albedo": 2, "shading": 1},
    "learned": {"shape": 4},
    "cloud": {"shape": 4, "appearance": 2},
    "learned-cloud": {"shape": 4},
}
CLASS_DIM, K = 3, 5


def build(name, *, class_aware=False, seed=0, **arguments):
    """A model of which no layer is left at its beginning."""
    torch.manual_seed(seed)
    more = CLASS_DIM if class_aware else 0
    if name.endswith("cloud"):
        encoder, deformation = PointNetEncoder((8, 16)), PointDeformation(field(4 + more), steps=2, neighbors=4)
    else:
        encoder = ImageMLPEncoder(SHAPE, (16,))
        deformation = GridDeformation(decoder(4 + more, 2), smoothness=0.3, bias=0.4)
    if class_aware:
        arguments = {"num_classes": K, "class_dim": CLASS_DIM} | arguments
    kind = ClassAwareDeformingAutoencoder if class_aware else DeformingAutoencoder
    model = kind(encoder, TEMPLATES[name](more), deformation, optimizer=ADAM, **arguments)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def data(name, number=6):
    torch.manual_seed(7)
    return torch.rand(number, *((20, 3) if name.endswith("cloud") else SHAPE))


every = pytest.mark.parametrize("name", TEMPLATES)
both = pytest.mark.parametrize("class_aware", [False, True], ids=["plain", "class-aware"])


# ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@every
def test_the_loss_is_the_reconstruction_and_what_template_and_deformation_cost(name):
    model = build(name).double()
    x = data(name).double()
    terms = model.terms(x)
    z = model.bottleneck(model.encoder(x))
    codes, start = {}, 0
    for part, length in PARTS[name].items():
        codes[part], start = z[:, start : start + length], start + length
    painted = model.decoder.template(codes, len(x))
    deformed = model.decoder.deformation(codes["shape"], painted.template)
    if name.endswith("cloud"):
        distance = chamfer_distance(deformed.x, x, reduction="sum").mean() / (2 * 0.05**2)
    else:
        distance = sum((p - q) ** 2 for p, q in zip(deformed.x.flatten().tolist(), x.flatten().tolist(), strict=True))
        distance = torch.tensor(distance / len(x), dtype=torch.float64)
    penalties = deformed.price().penalties() | painted.price().penalties()
    assert {"smoothness", "bias"} <= set(penalties)
    torch.testing.assert_close(terms["reconstruction"], distance)
    for term, value in penalties.items():
        torch.testing.assert_close(terms[term], value)
    torch.testing.assert_close(terms["loss"], distance + sum(penalties.values()))
    vectors = {f"mean/{center}" for center in model.decoder.centers}
    assert set(terms) == {*model.TERMS, "codes", *vectors}
    for name_, length in model.decoder.centers.items():
        assert terms[f"mean/{name_}"].shape == (length,)
        torch.testing.assert_close(terms[f"mean/{name_}"].square().sum(), terms[name_])
    assert ("loss", "reconstruction", *model.decoder.deformation.terms, *model.decoder.template.terms) == model.TERMS
    assert torch.equal(terms["codes"], z)


@every
def test_an_evaluation_is_the_same_for_batches_of_any_size(name):
    model = build(name).eval()
    x = torch.cat([data(name)] * 2)[:7]

    def evaluated(*sizes):
        with torch.no_grad():
            for part in x.split(sizes):
                model.gather(model.terms(part), len(part))
        return model.means()

    whole, parts = evaluated(7), evaluated(1, 2, 4)
    assert whole["bias"] > 0.01
    assert whole.keys() == parts.keys() == set(model.TERMS)
    for term, value in whole.items():
        torch.testing.assert_close(parts[term], value, rtol=1e-4, atol=1e-4)
    again = model.terms(x)
    for term, value in whole.items():
        torch.testing.assert_close(again[term], value, rtol=1e-4, atol=1e-4)


def test_another_distance_is_used_as_it_is_given():
    x = data("decoded")
    model = build("decoded", reconstruction=AbsoluteErrorReconstruction(0.5))
    expected = 0.5 * (model.decode(model.encode(x)) - x).abs().sum() / len(x)
    torch.testing.assert_close(model.terms(x)["reconstruction"], expected)


@every
@both
def test_gradients_reach_every_weight(name, class_aware):
    model = build(name, class_aware=class_aware).train()
    label = torch.arange(6) % K if class_aware else None
    model.batch_terms(Batch(data(name), label))["loss"].backward()
    for parameter, weight in model.named_parameters():
        if weight.requires_grad and not parameter.endswith("reconstruction"):
            assert weight.grad is not None, parameter
            assert torch.isfinite(weight.grad).all(), parameter
            assert weight.grad.any(), parameter


@pytest.mark.parametrize(
    "loss", [BernoulliReconstruction(), SquaredErrorReconstruction(sigmoid=True), GaussianReconstruction(sigmoid=True)]
)
def test_a_loss_of_logits_is_refused_for_images_that_are_sigmoids_already(loss):
    with pytest.raises(ConfigurationError, match=r"takes logits, .* no logits: take SquaredErrorReconstruction"):
        build("decoded", reconstruction=loss)


# ── what a code is made of ────────────────────────────────────────────────────────────────────────────────────────────


@every
@both
def test_the_parts_cover_a_code_exactly_once(name, class_aware):
    model = build(name, class_aware=class_aware)
    expected = PARTS[name] | ({"class": CLASS_DIM} if class_aware else {})
    assert {part: len(range(model.latent_dim)[columns]) for part, columns in model.latent_parts.items()} == expected
    columns = [column for part in model.latent_parts.values() for column in range(model.latent_dim)[part]]
    assert sorted(columns) == list(range(model.latent_dim))


@every
@both
def test_a_decomposition_is_what_decode_puts_together(name, class_aware):
    model = build(name, class_aware=class_aware)
    z = torch.randn(5, model.latent_dim)
    made = model.decompose(z)
    assert torch.equal(made.x, model.decode(z))
    assert made.template.shape == made.x.shape == (5, *model.sample_shape)
    if name.endswith("cloud"):
        torch.testing.assert_close(made.template + made.deformation, made.x)
    else:
        assert made.deformation.shape == (5, *SHAPE[1:], 2)
        torch.testing.assert_close(warp_images(made.template, made.deformation).clamp(0, 1), made.x)
    assert set(made.layers) == ({"albedo", "shading"} if name == "intrinsic" else set())
    if made.layers:
        assert made.layers["shading"].shape == (5, 1, *SHAPE[1:])
        torch.testing.assert_close(made.layers["albedo"] * made.layers["shading"], made.template)


@every
def test_chunks_change_nothing(name):
    model = build(name)
    z = torch.randn(7, model.latent_dim)
    whole = model.decompose(z)
    model.chunk_size = 3
    parts = model.decompose(z)
    for a, b in zip(parts[:3], whole[:3], strict=True):
        torch.testing.assert_close(a, b)
    assert set(parts.layers) == set(whole.layers)
    for layer, value in parts.layers.items():
        torch.testing.assert_close(value, whole.layers[layer])


@every
def test_no_code_gives_no_data(name):
    model = build(name)
    z = torch.zeros(0, model.latent_dim)
    assert model.decode(z).shape == model.decompose(z).x.shape == (0, *model.sample_shape)


def test_codes_of_another_length_are_refused():
    with pytest.raises(DataError, match=r"codes have shape \(2, 5\); this model's are \(B, 6\)"):
        build("decoded").decompose(torch.zeros(2, 5))


@pytest.mark.parametrize("name", ["decoded", "intrinsic", "cloud"])
def test_each_part_of_a_code_moves_what_it_names_and_nothing_else(name):
    model = build(name)
    z = torch.randn(4, model.latent_dim)
    before = model.decompose(z)
    for part, columns in model.latent_parts.items():
        moved = z.clone()
        moved[:, columns] += 1
        after = model.decompose(moved)
        same_template, same_warp = (
            torch.equal(getattr(after, n), getattr(before, n)) for n in ("template", "deformation")
        )
        assert same_template == (part == "shape")
        if name != "cloud":  # a cloud's displacements depend on where the template's points are
            assert same_warp == (part != "shape")
        for layer, value in after.layers.items():
            assert torch.equal(value, before.layers[layer]) == (part != layer)


def test_a_learned_template_is_one_for_all():
    for name in ("learned", "learned-cloud"):
        made = build(name).decompose(torch.randn(4, 4))
        assert torch.equal(made.template, made.template[:1].expand_as(made.template))
        assert not torch.allclose(made.deformation[0], made.deformation[1])


# ── interpolation ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("shape",), "linear"),
        (("albedo",), "linear"),
        (("shading", "shape"), "linear"),
        (("shape", "albedo", "shading"), "linear"),
        (("albedo", "shape"), "spherical"),  # a code of one dimension, as the shading's, has no circle
    ],
)
def test_the_named_parts_move_and_the_others_stay(parts, path):
    model = build("intrinsic")
    a, b = data("intrinsic"), data("intrinsic").flip(0)
    walk = model.interpolate(a, b, 4, path=path, parts=parts)
    assert walk.shape == (4, 6, *SHAPE)
    start, end = model.encode(a), model.encode(b)
    target = start.clone()
    for part in parts:
        target[:, model.latent_parts[part]] = end[:, model.latent_parts[part]]
    torch.testing.assert_close(walk[0], model.decode(start), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(walk[-1], model.decode(target), atol=1e-5, rtol=1e-5)
    if path == "linear":
        torch.testing.assert_close(walk[1], model.decode(start + (target - start) / 3), atol=1e-5, rtol=1e-5)
    one = model.interpolate(a[2], b[2], 4, path=path, parts=parts)
    torch.testing.assert_close(one, walk[:, 2], atol=1e-5, rtol=1e-5)


def test_all_parts_are_the_whole_code_and_none_moves_nothing():
    model = build("decoded")
    a, b = data("decoded"), data("decoded").flip(0)
    torch.testing.assert_close(model.interpolate(a, b, 3, parts=["appearance", "shape"]), model.interpolate(a, b, 3))
    still = model.interpolate(a, b, 3, parts=[])
    torch.testing.assert_close(still, model.reconstruct(a).expand_as(still))


def test_an_unknown_part_is_refused_with_the_names_of_all():
    x = data("decoded")
    with pytest.raises(
        ConfigurationError, match="of this DeformingAutoencoder have no part 'class'; theirs are shape, app"
    ):
        build("decoded").interpolate(x, x, 3, parts=["class"])
    plain = Autoencoder(PointNetEncoder((8, 16)), MLPDecoder(4, 20, (8,)))
    with pytest.raises(ConfigurationError, match="Autoencoder have no part 'shape'; they are not divided"):
        plain.interpolate(data("cloud"), data("cloud"), 3, parts=["shape"])


def test_it_does_not_sample():
    with pytest.raises(UnsupportedOperationError, match="DeformingAutoencoder cannot sample"):
        build("decoded").sample(2)


# ── classes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["decoded", "intrinsic", "cloud"])
def test_the_class_code_reaches_every_decoder(name):
    model = build(name, class_aware=True)
    z = torch.randn(4, model.latent_dim)
    moved = z.clone()
    moved[:, model.latent_parts["class"]] += 1
    before, after = model.decompose(z), model.decompose(moved)
    for thing in ("template", "deformation"):
        assert (getattr(after, thing) - getattr(before, thing)).abs().amax() > 1e-3
    for layer, value in after.layers.items():
        assert (value - before.layers[layer]).abs().amax() > 1e-3


@pytest.mark.parametrize("name", ["decoded", "cloud"])
def test_the_class_aware_loss_adds_the_cross_entropy(name):
    model = build(name, class_aware=True, class_weight=2.5).double()
    x, label = data(name).double(), torch.tensor([0, 4, 2, 2, 1, 3])
    terms = model.batch_terms(Batch(x, label))
    plain = model.terms(x)
    logits = model.encode(x)[:, -CLASS_DIM:] @ model.classifier.weight.T + model.classifier.bias
    chosen = logits.log_softmax(1)[torch.arange(6), label]
    torch.testing.assert_close(terms["cross_entropy"], -2.5 * chosen.mean())
    torch.testing.assert_close(terms["loss"], plain["loss"] - 2.5 * chosen.mean())
    assert terms["accuracy"].item() == pytest.approx((logits.argmax(1) == label).double().mean().item())
    torch.testing.assert_close(model.classify(x), logits.softmax(1))
    assert model.TERMS[-2:] == ("cross_entropy", "accuracy")


def test_appearance_may_be_the_class_alone():
    torch.manual_seed(0)
    template, deformation = DecodedTemplate(decoder(CLASS_DIM, 3)), GridDeformation(decoder(4 + CLASS_DIM, 2))
    encoder = ImageMLPEncoder(SHAPE, (16,))
    model = ClassAwareDeformingAutoencoder(encoder, template, deformation, num_classes=K, class_dim=CLASS_DIM).eval()
    assert model.latent_dim == 4 + CLASS_DIM
    z = torch.randn(2, model.latent_dim)
    z[1, model.latent_parts["class"]] = z[0, model.latent_parts["class"]]
    made = model.decompose(z)
    torch.testing.assert_close(made.template[0], made.template[1])
    x = data("decoded")
    still = model.interpolate(x, x.flip(0), 3, parts=["appearance"])  # of which there is nothing
    torch.testing.assert_close(still, model.reconstruct(x).expand_as(still))


@pytest.mark.parametrize(("appearance", "shape", "named"), [(2, 7, "appearance"), (5, 3, "shape"), (5, 2, "shape")])
def test_decoders_must_leave_room_for_the_class(appearance, shape, named):
    template, deformation = DecodedTemplate(decoder(appearance, 3)), GridDeformation(decoder(shape, 2))
    with pytest.raises(ConfigurationError, match=f"decoder of {named} sees codes of length .*give it a latent_dim"):
        ClassAwareDeformingAutoencoder(ImageMLPEncoder(SHAPE, (16,)), template, deformation, K, CLASS_DIM)


def test_labels_must_be_there_and_fit():
    model, x = build("decoded", class_aware=True), data("decoded")
    with pytest.raises(DataError, match="ClassAwareDeformingAutoencoder learns from labels, and these data have none"):
        model.batch_terms(Batch(x))
    with pytest.raises(DataError, match="label 5, and the model's num_classes is 5"):
        model.batch_terms(Batch(x, torch.arange(6)))
    with pytest.raises(DataError, match="label -1, and the model's num_classes is 5"):
        model.batch_terms(Batch(x, torch.tensor([0, 1, -1, 2, 3, 4])))


@pytest.mark.parametrize(("argument", "value"), [("num_classes", 1), ("class_dim", 0), ("class_weight", -1.0)])
def test_sizes_of_the_class_are_checked(argument, value):
    with pytest.raises(ConfigurationError, match=f"{argument} is {value}"):
        build("learned", class_aware=True, **{argument: value})


def cloud_classes(num_classes):
    torch.manual_seed(0)
    template = DecodedTemplate(MLPDecoder(2 + CLASS_DIM, 16, (8,)))
    folding = FoldingDecoder(4 + CLASS_DIM, 16, width=8, depth=2, code_widths=(8,), frequencies=1)
    deformation = PointDeformation(folding, neighbors=4)
    return ClassAwareDeformingAutoencoder(
        PointNetEncoder((8, 16)), template, deformation, num_classes, CLASS_DIM, optimizer=ADAM
    )


def test_training_logs_every_term_and_the_accuracy(fit):
    model = cloud_classes(2)
    runner = fit(model)
    for stage in ("train", "val"):
        logged = {name: runner.callback_metrics[f"{stage}/{name}"].item() for name in model.TERMS}
        parts = sum(logged[name] for name in model.TERMS if name not in ("loss", "accuracy"))
        assert logged["loss"] == pytest.approx(parts, rel=1e-5)
        assert 0 <= logged["accuracy"] <= 1
    assert {"smoothness", "bias", "variation", "cross_entropy", "accuracy"} <= set(model.TERMS)
    right = model.confusion.diag().sum() / model.confusion.sum()
    assert right.item() == pytest.approx(runner.callback_metrics["val/accuracy"].item())


def test_another_number_of_classes_than_the_datas_is_refused(fit):
    with pytest.raises(ConfigurationError, match=r"num_classes is 3 and the data have 2 classes \(chair, lamp\): set"):
        fit(cloud_classes(3))


# ── what does not fit ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_templates_and_deformations_of_different_data_are_refused():
    with pytest.raises(ConfigurationError, match="take a GridDeformation for images"):
        DeformingAutoencoder(ImageMLPEncoder(SHAPE, (8,)), TEMPLATES["decoded"](0), PointDeformation(field(4)))
    with pytest.raises(ConfigurationError, match="the deformation is for images"):
        DeformingAutoencoder(PointNetEncoder((8, 16)), TEMPLATES["cloud"](0), GridDeformation(decoder(4, 2)))
    with pytest.raises(ConfigurationError, match="is not for clouds"):
        build("cloud", reconstruction=BernoulliReconstruction())


# ── learning ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def shifted(number=48, S=16):
    """Three blobs under shifts and stretches: images (number, 1, S, S) and their true grids."""
    torch.manual_seed(0)
    shift_x, shift_y, wide, high = (2 * torch.rand(4, number, 1, 1) - 1).unbind(0)
    x, y = identity_grid(S, S).unbind(2)
    u, v = x * (1 + 0.2 * wide) + 0.25 * shift_x, y * (1 + 0.2 * high) + 0.25 * shift_y
    image = (-((u + 0.3) ** 2 + (v + 0.2) ** 2) / 0.05).exp()
    image = image + 0.8 * (-((u - 0.35) ** 2 / 0.02 + (v - 0.3) ** 2 / 0.1)).exp()
    image = image + 0.5 * (-((u - 0.2) ** 2 / 0.1 + (v + 0.45) ** 2 / 0.02)).exp()
    return image[:, None].clamp(0, 1), torch.stack([u, v], 3)


def warp_correlations(grid, true, support):
    """Of what each image's warp has of its own, along x and along y, where something is seen."""
    own = [(g - g.mean(0))[support] for g in (grid, true)]
    return [torch.corrcoef(torch.stack([g[:, axis] for g in own]))[0, 1].item() for axis in (0, 1)]


def test_it_finds_the_warps_of_images_that_nobody_told_it():
    x, true = shifted()
    torch.manual_seed(1)
    template = DecodedTemplate(ImageMLPDecoder(1, (1, 16, 16), (32,), batch_norm=False))
    warp = ImageMLPDecoder(4, (2, 16, 16), (32,), batch_norm=False)
    deformation = GridDeformation(warp, smoothness=0.02, bias=0.1)
    model = DeformingAutoencoder(ImageMLPEncoder((1, 16, 16), (64,)), template, deformation)
    first = model.decompose(model.encode(x))
    torch.testing.assert_close(first.deformation, identity_grid(16, 16).expand(48, -1, -1, -1), atol=1e-5, rtol=0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(200):
        loss = model.terms(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fixed = (x - x.mean(0)).square().sum() / len(x)  # the best that one image can do
    assert (model.reconstruct(x) - x).square().sum() / len(x) < 0.1 * fixed
    found, support = model.decompose(model.encode(x)).deformation, x[:, 0] > 0.2
    assert min(warp_correlations(found, true, support)) > 0.75
    assert max(map(abs, warp_correlations(found.roll(1, 0), true, support))) < 0.5  # another image's warp


def test_on_emblems_the_first_steps_lower_every_kind_of_loss():
    pattern = Patterns(16, 24, 0, 8, batch_size=24)
    pattern.setup("fit")
    x = pattern.take("train").x
    for absolute in (False, True):
        torch.manual_seed(0)
        albedo, shading = (ImageMLPDecoder(n, (c, 16, 16), (32,), batch_norm=False) for n, c in ((3, 3), (2, 1)))
        warp = GridDeformation(ImageMLPDecoder(4, (2, 16, 16), (32,), batch_norm=False), smoothness=0.05, bias=0.3)
        loss = AbsoluteErrorReconstruction() if absolute else None
        encoder = ImageMLPEncoder((3, 16, 16), (32,))
        model = DeformingAutoencoder(encoder, IntrinsicTemplate(albedo, shading), warp, loss)
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        losses = []
        for _ in range(60):
            terms = model.terms(x)
            losses.append(terms["loss"].item())
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()
        assert losses[-1] < 0.4 * losses[0]


@every
@both
def test_half_precision_stays_finite_and_near_single(name, class_aware):
    model = build(name, class_aware=class_aware)
    batch = Batch(data(name), torch.arange(6) % K)
    whole = model.batch_terms(batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.batch_terms(batch)
        made = model.decompose(half["codes"])
    half["loss"].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(torch.isfinite(value).all() for value in (*half.values(), *made[:3], *made.layers.values()))
    assert made.deformation.dtype == made.template.dtype == half["loss"].dtype == torch.float32
    torch.testing.assert_close(half["loss"], whole["loss"], rtol=0.05, atol=0)


@every
def test_weights_of_half_precision_decompose_as_whole_ones(name):
    model = build(name)
    whole = model.decompose(model.encode(data(name)))
    model = model.bfloat16()
    half = model.decompose(model.encode(data(name).bfloat16()))
    for made, exact in zip(half[:3], whole[:3], strict=True):
        assert made.dtype == torch.float32
        torch.testing.assert_close(made, exact, atol=0.05, rtol=0.05)
