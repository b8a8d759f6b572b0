"""Templates: how they begin, what they cost, and what reaches them; formulas in float64."""

import math

import pytest
import torch

from pcgen.errors import ConfigurationError
from pcgen.nets import (
    CNNDecoder,
    DecodedTemplate,
    FoldingDecoder,
    ImageMLPDecoder,
    IntrinsicTemplate,
    LearnedTemplate,
    MLPDecoder,
)
from pcgen.nets.folding import ball_points

SHAPE = (3, 6, 5)


def stirred(network, seed=0):
    """No layer is left at its beginning."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def image_template():
    torch.manual_seed(0)
    return DecodedTemplate(ImageMLPDecoder(4, SHAPE, (8,), batch_norm=False))


def cloud_template(**arguments):
    torch.manual_seed(0)
    return DecodedTemplate(MLPDecoder(4, 20, (8,), batch_norm=False), **arguments)


def intrinsic_template(**arguments):
    torch.manual_seed(0)
    albedo = ImageMLPDecoder(4, SHAPE, (8,), batch_norm=False)
    return IntrinsicTemplate(albedo, ImageMLPDecoder(2, (1, *SHAPE[1:]), (8,), batch_norm=False), **arguments)


def codes(template, number=7, dtype=torch.float64):
    torch.manual_seed(1)
    return {name: torch.randn(number, length, dtype=dtype) for name, length in template.inputs.items()}


EVERY = {
    "image": image_template,
    "cloud": cloud_template,
    "intrinsic": intrinsic_template,
    "learned": lambda: LearnedTemplate((20, 3)),
    "learned-image": lambda: LearnedTemplate(SHAPE),
}
every = pytest.mark.parametrize("name", EVERY)


# ── how they begin ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "decoder", [MLPDecoder(4, 20, (8,)), FoldingDecoder(4, 20, width=8, depth=2, code_widths=(8,))]
)
def test_a_decoded_cloud_begins_as_the_learned_one_for_every_code(decoder):
    template = DecodedTemplate(decoder)
    made = template(codes(template, dtype=torch.float32), 7)
    assert torch.equal(made.template, (ball_points(20) / 2).expand(7, -1, -1))
    assert abs(made.price().penalties()["variation"].item()) < 1e-5
    assert made.layers == {}


def test_a_learned_cloud_begins_in_a_ball_and_an_image_as_grey():
    cloud = LearnedTemplate((20, 3))({}, 4)
    assert torch.equal(cloud.template, (ball_points(20) / 2).expand(4, -1, -1))
    assert cloud.price().penalties() == cloud.layers == {}
    assert torch.equal(LearnedTemplate(SHAPE)({}, 4).template, torch.full((4, *SHAPE), 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shading_begins_as_one_in_any_precision(dtype):
    template = intrinsic_template()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        made = template(codes(template, dtype=torch.float32), 7)
    torch.testing.assert_close(made.layers["shading"], torch.ones(7, 1, *SHAPE[1:]), atol=1e-6, rtol=0)
    assert made.price().penalties()["shading_smoothness"] == 0
    assert made.price().penalties()["shading_bias"] < 1e-10
    assert made.template.dtype == torch.float32


# ── what they give ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_image_is_the_sigmoid_of_what_the_decoder_gives():
    template = stirred(image_template().double())
    z = codes(template)
    made = template(z, 7)
    torch.testing.assert_close(made.template, 1 / (1 + (-template.decoder(z["appearance"])).exp()))
    assert made.price().penalties() == made.layers == {}
    assert template.terms == ()


def test_what_parts_a_cloud_from_the_learned_one_costs_its_length():
    template = stirred(cloud_template(variation=0.7).double())
    z = codes(template)
    made = template(z, 7)
    moved = template.decoder(z["appearance"])
    torch.testing.assert_close(made.template, template.base + moved)
    lengths = sum(math.dist((0, 0, 0), point) for point in moved.flatten(0, 1).tolist())
    cost = made.price().penalties()["variation"].item()
    assert cost == pytest.approx(0.7 * lengths / 7, abs=0.7 * 20 * 1e-3)  # rounded at 0
    exact = sum(math.sqrt(sum(c * c for c in point) + 1e-6) - 1e-3 for point in moved.flatten(0, 1).tolist())
    assert cost == pytest.approx(0.7 * exact / 7, rel=1e-12)


def test_an_intrinsic_template_is_albedo_times_shading_and_pays_for_slopes_and_brightness():
    template = stirred(intrinsic_template(smoothness=0.4, bias=0.9).double())
    made = template(codes(template), 7)
    albedo, shading = made.layers["albedo"], made.layers["shading"]
    assert torch.equal(made.template, albedo * shading)
    assert albedo.shape == (7, *SHAPE)
    assert shading.shape == (7, 1, *SHAPE[1:])
    assert 0 < albedo.min() < albedo.max() < 1
    assert 0 < shading.min() < 1 < shading.max()
    S = shading[:, 0].tolist()
    H, W = SHAPE[1:]
    slopes = sum((image[i + 1][j] - image[i][j]) ** 2 for image in S for i in range(H - 1) for j in range(W))
    slopes += sum((image[i][j + 1] - image[i][j]) ** 2 for image in S for i in range(H) for j in range(W - 1))
    mean = [sum(image[i][j] for image in S) / 7 for i in range(H) for j in range(W)]
    found = made.price().penalties()
    assert found["shading_smoothness"].item() == pytest.approx(0.4 * slopes / 7, rel=1e-12)
    assert found["shading_bias"].item() == pytest.approx(0.9 * sum((m - 1) ** 2 for m in mean), rel=1e-12)


def test_albedo_and_shading_each_see_their_own_code():
    template = stirred(intrinsic_template().double())
    z = codes(template)
    before = template(z, 7).layers
    for name, other in (("albedo", "shading"), ("shading", "albedo")):
        after = template(z | {name: z[name] + 1}, 7).layers
        assert torch.equal(after[other], before[other])
        assert not torch.allclose(after[name], before[name])


@every
def test_templates_do_not_see_their_batch_and_say_what_they_are(name):
    template = stirred(EVERY[name]().double())
    z, order = codes(template), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    made, mixed = template(z, 7), template({k: v[order] for k, v in z.items()}, 7)
    torch.testing.assert_close(mixed.template, made.template[order])
    assert made.template.shape == (7, *template.sample_shape)
    assert tuple(made.price().penalties()) == template.terms
    for term, value in made.price().penalties().items():
        torch.testing.assert_close(mixed.price().penalties()[term], value)
        assert value.shape == ()


@every
def test_gradients_reach_every_weight_and_code(name):
    template = stirred(EVERY[name]().double())
    z = {k: v.requires_grad_() for k, v in codes(template).items()}
    made = template(z, 7)
    pull = torch.randn_like(made.template)
    ((made.template * pull).sum() + sum(made.price().penalties().values())).backward()
    for tensor in (*template.parameters(), *z.values()):
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.any()


@pytest.mark.parametrize("name", ["cloud", "intrinsic"])
def test_penalties_have_gradients_where_they_begin(name):
    """A root has no slope at 0, where every training begins."""
    template = EVERY[name]().double()
    sum(template(codes(template), 7).price().penalties().values()).backward()
    grads = [parameter.grad for parameter in template.parameters() if parameter.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_half_precision_sums_as_single():
    template = stirred(cloud_template())
    z = codes(template, dtype=torch.float32)
    whole = template(z, 7).price().penalties()["variation"]
    with torch.autocast("cpu", torch.bfloat16):
        made = template(z, 7)
    assert made.price().penalties()["variation"].dtype == made.template.dtype == torch.float32
    torch.testing.assert_close(made.price().penalties()["variation"], whole, rtol=0.01, atol=0)


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_shading_of_another_size_or_with_colours_is_refused():
    for shape in ((3, 6, 5), (1, 5, 6)):
        with pytest.raises(ConfigurationError, match=r"albedo makes data \(3, 6, 5\) .* give images \(C, H, W\) and"):
            IntrinsicTemplate(ImageMLPDecoder(4, SHAPE, (8,)), ImageMLPDecoder(2, shape, (8,)))
    with pytest.raises(ConfigurationError, match="albedo makes data"):
        IntrinsicTemplate(MLPDecoder(4, 20, (8,)), CNNDecoder(2, (1, 8, 8), (4,)))


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_weights_are_finite_and_not_negative(weight):
    with pytest.raises(ConfigurationError, match=f"variation is {weight}"):
        cloud_template(variation=weight)
    with pytest.raises(ConfigurationError, match=f"smoothness is {weight}"):
        intrinsic_template(smoothness=weight)
    with pytest.raises(ConfigurationError, match=f"bias is {weight}"):
        intrinsic_template(bias=weight)


def test_a_template_has_places_alone():
    decoder = FoldingDecoder(4, 20, width=8, depth=1, code_widths=(8,), extra_channels=3)
    with pytest.raises(ConfigurationError, match="extra_channels 3; a template has none, give 0"):
        DecodedTemplate(decoder)


@pytest.mark.parametrize("shape", [(20, 2), (0, 3), (1, 0, 4), (4,)])
def test_a_learned_template_is_a_cloud_or_an_image(shape):
    with pytest.raises(ConfigurationError):
        LearnedTemplate(shape)
