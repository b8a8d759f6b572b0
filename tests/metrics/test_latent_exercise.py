"""Kernel distances of N(0, 1) to itself, N(0, 1/2), N(0, 1/4) and N(1, 1): samples and the page against truth."""

import math
import re

import pytest
import torch
from scipy.integrate import quad

from pcgen.ops import GaussianKernel, InverseMultiquadratic, kernel_mmd2

LAWS = {"N(0, 1)": (0, 1), "N(0, 1/2)": (0, 0.5), "N(0, 1/4)": (0, 0.25), "N(1, 1)": (1, 1)}  # mean and variance


def by_quadrature(profile):
    def mean(m, s):
        def weighted(u):
            return profile(u) * math.exp(-((u - m) ** 2) / (2 * s)) / math.sqrt(2 * math.pi * s)

        return quad(weighted, m - 12 * math.sqrt(s), m + 12 * math.sqrt(s), epsabs=1e-12)[0]

    return mean


def gaussian(m, s):
    """E exp(−u²/2) for u ~ N(m, s)."""
    return math.exp(-(m**2) / (2 * (1 + s))) / math.sqrt(1 + s)


KERNELS = {
    "default": (InverseMultiquadratic(), by_quadrature(lambda u: 1 / (1 + u * u))),
    "gaussian": (GaussianKernel(1.0), gaussian),
}


def population(mean, law):
    m, v = LAWS[law]
    return mean(0, 2) + mean(0, 2 * v) - 2 * mean(m, 1 + v)


def test_quadrature_and_closed_form_are_the_same():
    numerical = by_quadrature(lambda u: math.exp(-u * u / 2))
    for m, s in ((0, 2), (1, 2), (0, 0.5)):
        assert numerical(m, s) == pytest.approx(gaussian(m, s), rel=1e-10)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_samples_against_the_population(kernel, law):
    (k, mean), (m, v), n, times = KERNELS[kernel], LAWS[law], 400, 40
    g, found = torch.Generator().manual_seed(0), {True: [], False: []}
    for _ in range(times):
        x, y = torch.randn(2, n, 1, dtype=torch.float64, generator=g)
        for unbiased, values in found.items():
            values.append(kernel_mmd2(x, m + math.sqrt(v) * y, kernel=k, unbiased=unbiased))
    u, w = (torch.stack(found[unbiased]) for unbiased in (True, False))
    error = 4 * u.std().item() / math.sqrt(times)
    assert error < 0.015
    assert u.mean().item() == pytest.approx(population(mean, law), abs=error)
    bias = (2 - mean(0, 2) - mean(0, 2 * v)) / n
    assert w.mean().item() == pytest.approx(population(mean, law) + bias, abs=error)
    assert (w > u).all()


def test_the_page_says_what_is_true(root):
    page = (root / "docs" / "kernel-distance.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (N\(.*?\)) \| ([\d.]+) \| ([\d.]+) ± ([\d.]+) \| ([\d.]+) ± ([\d.]+) \|$", page, re.MULTILINE
    )
    assert [row[0] for row in rows] == 2 * list(LAWS)
    for i, (law, *cells) in enumerate(rows):
        mean = list(KERNELS.values())[i // len(LAWS)][1]
        truth, v, v_std, u, u_std = (float(cell) for cell in cells)
        assert truth == pytest.approx(population(mean, law), abs=6e-6)
        bias = (2 - mean(0, 2) - mean(0, 2 * LAWS[law][1])) / 1000
        assert v == pytest.approx(truth + bias, abs=4 * v_std / math.sqrt(200) + 5e-5)
        assert u == pytest.approx(truth, abs=4 * u_std / math.sqrt(200) + 5e-5)


def test_the_pages_example_runs(root, capsys):
    page = (root / "docs" / "kernel-distance.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), {})
    lines = capsys.readouterr().out.splitlines()
    v = [float(line.split()[-2]) for line in lines]
    assert [line.rsplit(" ", 2)[0] for line in lines] == list(LAWS)
    assert v == sorted(v)
