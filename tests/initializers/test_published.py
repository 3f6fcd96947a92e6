"""Schemes of papers, against their formulas written out another way, or the authors' libraries."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
import torch
from torch import nn

import portinit
import portinit_torch
from portinit import recipes

KEY = portinit.key(3)


def torchs(initializer: portinit.Initializer, shape: tuple[int, ...], dtype: str = "float32"):
    return initializer(KEY, shape, dtype, layout="torch")


@pytest.mark.parametrize(
    ("initializer", "shape", "bound"),
    [
        (portinit.siren(), (64, 96), math.sqrt(6 / 96) / 30),
        (portinit.siren(omega=5.0), (64, 96), math.sqrt(6 / 96) / 5),
        (portinit.siren(first=True), (64, 3), 1 / 3),
    ],
    ids=str,
)
def test_siren(initializer, shape, bound) -> None:
    """By the bounds and the variance of Sitzmann et al., and sines that keep their spread."""
    values = torchs(initializer, shape, "float64")
    assert abs(values).max() <= bound
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_a_siren_keeps_its_activations() -> None:
    """For x from N(0, v), sin(x) has the variance (1 - exp(-2v)) / 2, and the layer doubles it."""
    fixed = scipy.optimize.brentq(lambda v: 1 - math.exp(-2 * v) - v, 0.1, 2)
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 256))
    for number in range(12):
        weight = portinit.siren()(KEY.fold_in(str(number)), (256, 256), "float64", layout="torch")
        before = 30 * x @ weight.T
        x = np.sin(before)
    assert before.var() == pytest.approx(fixed, rel=0.05)


@pytest.mark.parametrize("shape", [(512, 512), (1024, 128), (128, 1024)])
def test_spectral_norms(shape) -> None:
    """By SciPy's singular values: sqrt(fan_out / fan_in) up to the constant of random matrices."""
    outputs, inputs = shape
    norm = scipy.linalg.svdvals(torchs(portinit.spectral(), shape))[0]
    small, large = sorted(shape)
    asymptotic = 1 + math.sqrt(small / large)  # Bai and Yin, 1988
    assert norm == pytest.approx(math.sqrt(outputs / inputs) * asymptotic, rel=0.05)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_hippo_keeps_legendre_coefficients(size) -> None:
    """d/dt c = (A c + B f) / t for f = 1 and for f = t, whose coefficients are known."""
    a = torchs(portinit.hippo(), (size, size), "float64")
    n = np.arange(size)
    b = np.sqrt(2 * n + 1)
    constant = np.where(n == 0, 1.0, 0.0)  # of f = 1 at all times: c does not change
    np.testing.assert_allclose(a @ constant + b, 0, atol=1e-12)
    # f(t) = t has c(t) = t g, with g the coefficients of x on [0, 1]: 1/2 and 1/(2 sqrt(3)).
    line = np.where(n == 0, 0.5, np.where(n == 1, 1 / (2 * math.sqrt(3)), 0.0))
    if size > 1:
        np.testing.assert_allclose(a @ line + b, line, atol=1e-12)


def test_mambas_parameters() -> None:
    """By torch: softplus of the bias is log-uniform, A_log is log(1..n)."""
    bias = torch.from_numpy(torchs(portinit.mamba_dt_bias(0.01, 0.5), (20000,), "float64"))
    step = nn.functional.softplus(bias).numpy()
    assert step.min() >= 0.01 * (1 - 1e-9)
    assert step.max() <= 0.5 * (1 + 1e-9)
    uniform = (np.log(step) - math.log(0.01)) / (math.log(0.5) - math.log(0.01))
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-3
    floored = torchs(portinit.mamba_dt_bias(1e-3, 0.1, floor=0.05), (64,), "float64")
    assert np.log1p(np.exp(floored)).min() == pytest.approx(0.05)
    a_log = torchs(portinit.mamba_a_log(), (3, 16))
    expected = torch.arange(1, 17, dtype=torch.float64).log().float().expand(3, 16)
    assert np.array_equal(a_log, expected.numpy())


def test_s4ds_imaginary_part() -> None:
    values = torchs(portinit.progression(0, math.pi), (2, 5))
    assert np.array_equal(values, np.tile((math.pi * np.arange(5)).astype(np.float32), (2, 1)))


@pytest.mark.parametrize("outputs", [3, 8, 20])
@pytest.mark.parametrize("inputs", [2, 8])
def test_zero_is_scipys_hadamard(outputs, inputs) -> None:
    weight = torchs(portinit.hadamard(), (outputs, inputs), "float64")
    if outputs <= inputs:
        assert np.array_equal(weight, np.eye(outputs, inputs))
        return
    size = 1 << math.ceil(math.log2(outputs))
    expected = scipy.linalg.hadamard(size)[:outputs, :inputs] / math.sqrt(size)
    np.testing.assert_allclose(weight, expected, rtol=1e-15)
    convolution = torchs(portinit.hadamard(), (outputs, inputs, 3, 5), "float64")
    assert np.array_equal(convolution[:, :, 1, 2], weight)
    assert np.count_nonzero(convolution) == np.count_nonzero(weight)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_icnr_starts_as_nearest_neighbours(scale) -> None:
    """By PyTorch: convolution and pixel shuffle equal the convolution and nearest upsampling."""
    init = portinit.icnr(portinit.kaiming_normal(), scale)
    weight = torch.from_numpy(torchs(init, (5 * scale**2, 4, 3, 3)))
    image = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    ours = nn.functional.pixel_shuffle(nn.functional.conv2d(image, weight), scale)
    one = torch.from_numpy(torchs(portinit.kaiming_normal(), (5, 4, 3, 3)))
    small = nn.functional.conv2d(image, one)
    torch.testing.assert_close(ours, small.repeat_interleave(scale, 2).repeat_interleave(scale, 3))


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("groups", [1, 3])
def test_bilinear_upsampling_interpolates(factor, groups) -> None:
    """By PyTorch's own interpolation, away from the border."""
    size = 2 * factor - factor % 2
    layer = nn.ConvTranspose2d(3, 3, size, factor, (size - factor) // 2, bias=False, groups=groups)
    portinit_torch.fill_(layer.weight, portinit.bilinear_upsampling(), key=KEY)
    image = torch.randn(1, 3, 8, 9, generator=torch.Generator().manual_seed(1))
    ours = layer(image).detach()
    theirs = nn.functional.interpolate(image, scale_factor=factor, mode="bilinear")
    assert ours.shape[2:] == theirs.shape[2:]
    inner = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(ours[inner], theirs[inner], atol=1e-5, rtol=1e-5)


def test_sinusoids_are_whispers() -> None:
    """By transformers' own function."""
    whisper = pytest.importorskip("transformers.models.whisper.modeling_whisper")
    table = portinit.sinusoids()(KEY, (50, 16))
    np.testing.assert_allclose(table, whisper.sinusoids(50, 16).numpy(), atol=4e-6)


@pytest.mark.parametrize("columns", [None, 1, 2, 4])
def test_sinusoids_of_a_grid(columns) -> None:
    """By MAE's description: each half of the features is the one-dimensional table of an axis."""
    side = columns or 4
    table = portinit.sinusoids_2d(columns=columns)(KEY, (1, 16, 12), "float64")[0]
    frequencies = [1 / 10000 ** (i / 3) for i in range(3)]
    for position, row in enumerate(table):
        halves = [[p * w for w in frequencies] for p in (position % side, position // side)]
        waves = [f(a) for half in halves for f in (math.sin, math.cos) for a in half]
        np.testing.assert_allclose(row, waves, atol=1e-15)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_fourier_features_have_a_gaussian_kernel(sigma) -> None:
    """By Bochner's theorem: the mean of cos(2 pi b (x - y)) is exp(-2 pi^2 sigma^2 (x - y)^2)."""
    matrix = torchs(portinit.normal(std=sigma), (200_000, 1), "float64")
    for distance in (0.0, 0.1, 0.5, 1.0):
        kernel = np.cos(2 * math.pi * matrix * distance).mean()
        expected = math.exp(-2 * (math.pi * sigma * distance) ** 2)
        assert kernel == pytest.approx(expected, abs=4 / math.sqrt(200_000))


def test_finers_biases_reach_all_its_frequencies() -> None:
    """The phase omega (|z| + 1) z turns at omega (2 |z| + 1), uniform up to omega (2k + 1)."""
    k, omega = 3.0, 30.0
    bias = torch.from_numpy(torchs(portinit.uniform(-k, k), (4000,), "float64")).requires_grad_()
    phase = omega * (bias.abs() + 1) * bias
    (frequency,) = torch.autograd.grad(phase.sum(), bias)
    found = (frequency.numpy() / omega - 1) / (2 * k)
    assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3


EVERYWHERE = [
    (portinit.sinusoids(), (6, 8)),
    (portinit.sinusoids_2d(), (1, 9, 8)),
    (portinit.siren(), (12, 8)),
    (portinit.spectral(), (12, 8)),
    (portinit.hippo(), (8, 8)),
    (portinit.progression(1, 1, log=True), (3, 8)),
    (portinit.mamba_dt_bias(), (40,)),
    (portinit.hadamard(), (3, 3, 4, 12)),
    (portinit.hadamard(), (4, 12)),
    (portinit.icnr(portinit.normal(), 2), (3, 3, 2, 8)),
    (portinit.bilinear_upsampling(), (4, 4, 2, 2)),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("initializer", "shape"), EVERYWHERE, ids=str)
def test_the_same_bits_in_every_framework(initializer, shape, dtype) -> None:
    wanted = np.asarray(initializer(KEY, shape, dtype)).tobytes()
    in_jax = initializer(KEY, shape, getattr(jnp, dtype), xp=jnp)
    assert np.asarray(in_jax).tobytes() == wanted
    in_torch = initializer(KEY, shape, getattr(torch, dtype), xp=torch)
    assert in_torch.contiguous().view(torch.uint8).numpy().tobytes() == wanted
    text = portinit.Recipe([("*", initializer)]).to_json()
    assert portinit.Recipe.from_json(text).rules[0].initializer == initializer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: portinit.siren(omega=0), "omega must be a finite number above 0, got 0"),
        (lambda: portinit.siren(first="yes"), "first must be True or False, got 'yes'"),
        (lambda: portinit.spectral(scale=-1), "scale must be a finite number, 0 or more"),
        (lambda: portinit.icnr(portinit.normal, 2), "needs a portinit initializer"),
        (lambda: torchs(portinit.icnr(portinit.normal(), 2), (6, 1, 3, 3)), "4 must divide axis 0"),
        (lambda: torchs(portinit.hippo(), (2, 3)), "needs a square shape"),
        (lambda: torchs(portinit.progression(0, 1, log=True), (3,)), "need numbers above 0"),
        (lambda: portinit.sinusoids_2d(1.0), "longest must be a finite number above 1"),
        (lambda: portinit.sinusoids_2d(columns=0), "columns must be 1 or more, got 0"),
        (lambda: torchs(portinit.sinusoids_2d(), (8, 4)), r"need a square number.*\(8, 4\)"),
        (lambda: torchs(portinit.sinusoids_2d(columns=3), (8, 4)), "need a multiple of 3"),
        (lambda: torchs(portinit.sinusoids_2d(), (9, 6)), "d a multiple of 4"),
        (lambda: torchs(portinit.sinusoids_2d(), (2, 9, 8)), r"or \(1, positions, d\)"),
        (lambda: portinit.mamba_dt_bias(0.1, 0.01), "0 < dt_min <= dt_max"),
        (lambda: recipes.class_prior(1.0), "must be between 0 and 1"),
        (lambda: recipes.deepnorm(), "got 0 of both"),
        (lambda: recipes.fixup(0), "blocks must be 1 or more"),
    ],
)
def test_errors(make, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def std_of(recipe: portinit.Recipe, name: str, shape=(8, 8), kind: str | None = None) -> float:
    rule = recipe.find(portinit.Parameter(name, shape, kind))
    assert rule is not None
    return rule.initializer.distribution_of(shape, layout="torch").std


def test_gpt_neox() -> None:
    recipe = recipes.gpt_neox(layers=44, width=6144)
    name = "layers.0.attention.query_key_value.weight"
    assert std_of(recipe, name) ** 2 == pytest.approx(2 / (6144 + 4 * 6144))  # their form
    out = std_of(recipe, "layers.0.mlp.dense_4h_to_h.weight")
    assert out == pytest.approx(2 / 44 / 6144**0.5)


def test_deepnorm_and_t_fixup() -> None:
    xavier = math.sqrt(2 / 16)
    both = recipes.deepnorm(encoder_layers=6, decoder_layers=12)
    expected = 0.87 * (6**4 * 12) ** (-1 / 16)
    assert std_of(both, "encoder.1.fc1.weight", kind="linear") == pytest.approx(expected * xavier)
    expected = (12 * 12) ** (-1 / 4)
    assert std_of(both, "decoder.1.v_proj.weight", kind="linear") == pytest.approx(
        expected * xavier
    )
    assert std_of(both, "decoder.1.q_proj.weight", kind="linear") == pytest.approx(xavier)
    alone = recipes.deepnorm(decoder_layers=18)
    assert std_of(alone, "0.out_proj.weight") == pytest.approx((8 * 18) ** (-1 / 4) * xavier)
    fixed = recipes.t_fixup(width=64, encoder_layers=6, decoder_layers=6)
    assert std_of(fixed, "decoder.1.fc2.weight") == pytest.approx(54 ** (-1 / 4) * xavier)
    table = std_of(fixed, "encoder.embed.weight", kind="embedding")
    assert table == pytest.approx(64**-0.5 * 0.67 * 6 ** (-1 / 4))


@pytest.mark.parametrize(("n", "m"), [(6, 6), (6, 18), (100, 3)])
def test_deepnorms_encoder_keeps_updates_bounded(n, m) -> None:
    """By the bound that section 4.2 of Wang et al. derives: with the decoder's share of it,

    M beta_d^2 / alpha_d, the encoder's 2 N residual branches, 4 N beta_e^2 / alpha_e^2, give 1.
    """
    recipe = recipes.deepnorm(encoder_layers=n, decoder_layers=m)
    xavier = math.sqrt(2 / 16)
    beta_e, beta_d = (
        std_of(recipe, f"{side}.0.fc1.weight", kind="linear") / xavier
        for side in ("encoder", "decoder")
    )
    alpha_e, alpha_d = 0.81 * (n**4 * m) ** (1 / 16), (3 * m) ** 0.25
    assert 6 * m * beta_d**2 / alpha_d**2 == pytest.approx(1)
    product = m * beta_d**2 / alpha_d * 4 * n * beta_e**2 / alpha_e**2
    assert product == pytest.approx(1, rel=0.02)  # of numbers that the paper rounds to two digits


@pytest.mark.parametrize(
    "recipe",
    [
        recipes.deepnorm(encoder_layers=2, decoder_layers=50),
        recipes.t_fixup(width=8, encoder_layers=2, decoder_layers=50),
    ],
    ids=["deepnorm", "t_fixup"],
)
def test_a_decoders_attention_to_the_encoder_is_the_decoders(recipe) -> None:
    """As Bart's and torchscale's are called, decoder.layers.0.encoder_attn.v_proj."""
    of_decoder = std_of(recipe, "model.decoder.layers.0.encoder_attn.v_proj.weight")
    assert of_decoder == std_of(recipe, "model.decoder.layers.0.fc1.weight")
    assert of_decoder != std_of(recipe, "model.encoder.layers.0.fc1.weight")


def test_fixup_branches() -> None:
    """By the authors' code: std = sqrt(2 / (out * k * k)) * L ** -0.5 for branches of two."""
    recipe = recipes.fixup(blocks=27)
    shape = (32, 16, 3, 3)
    std = std_of(recipe, "layer2.0.conv1.weight", shape, "conv")
    assert std == pytest.approx(math.sqrt(2 / (32 * 9)) * 27**-0.5)
    assert std_of(recipe, "layer2.0.conv2.weight", shape, "conv") == 0
    assert std_of(recipe, "fc.weight") == 0
    scalars = {"layer1.0.scale": portinit.ones, "layer1.0.bias2b": portinit.zeros}
    for name, wanted in scalars.items():
        found = recipe.find(portinit.Parameter(name, (1,)))
        assert found is not None
        assert found.initializer == wanted


def test_class_prior() -> None:
    bias = float(recipes.class_prior(0.01)(KEY, (1,), "float64")[0])
    assert torch.sigmoid(torch.tensor(bias, dtype=torch.float64)).item() == pytest.approx(0.01)


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, width)
        self.hidden = nn.Linear(width, 4 * width)
        self.norm = nn.LayerNorm(4 * width)
        self.out = nn.Linear(4 * width, 10)


def test_mup_of_a_model() -> None:
    """By table 3 of Yang et al.: variances 1, 1/fan_in and 1/fan_in^2, relative to the base."""
    wide, base = (portinit_torch.trace(lambda n=n: MLP(n)) for n in (256, 32))
    recipe = recipes.mup(wide, base)
    found = {rule.name: rule for rule in recipe.rules}
    widths = 256 / 32
    expected = {"embed.weight": 1, "hidden.weight": widths**-0.5, "out.weight": 1 / widths}
    expected |= {"hidden.bias": 1, "out.bias": 1}
    for rule in base.rules:
        if rule.name in expected:
            std = rule.initializer.distribution_of(rule.shape, layout="torch").std
            own = found[rule.name]
            got = own.initializer.distribution_of(own.shape, layout="torch").std
            assert got == pytest.approx(std * expected[rule.name]), rule.name
    model = portinit_torch.initialize(MLP(256), recipe, KEY)
    assert model.out.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 128) / 8, rel=0.1)
    with pytest.raises(portinit.RecipeError, match="got nothing of this name"):
        recipes.mup(wide, portinit_torch.trace(lambda: nn.Linear(2, 2)))


class WithoutLayers(nn.Module):
    """A table of positions, packed experts, and a product of its own."""

    def __init__(self, width: int, product: bool) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 7, width))
        self.experts = nn.Parameter(torch.randn(4, 2 * width, width))
        if product:
            self.out = nn.Parameter(torch.randn(width, 10))


def test_mup_guesses_no_axis() -> None:
    wide, base = (portinit_torch.trace(lambda n=n: WithoutLayers(n, False)) for n in (64, 16))
    with pytest.raises(portinit.RecipeError, match="positions: no known layer tells which axis"):
        recipes.mup(wide, base)
    stds = {
        rule.name: rule.initializer.distribution_of(rule.shape, layout="torch").std
        for rule in recipes.mup(wide, base, inputs="positions").rules
    }
    assert stds == {"positions": 1.0, "experts": 0.5}
    wide, base = (portinit_torch.trace(lambda n=n: WithoutLayers(n, True)) for n in (64, 16))
    with pytest.raises(portinit.RecipeError, match="out: no known layer"):
        recipes.mup(wide, base, inputs="positions")


@pytest.mark.parametrize("side", ["", "encoder."])
def test_packed_projections_are_no_values(side) -> None:
    xavier = math.sqrt(2 / 16)
    for recipe in (
        recipes.deepnorm(encoder_layers=6),
        recipes.deepnorm(encoder_layers=6, decoder_layers=6),
        recipes.t_fixup(width=8, encoder_layers=6),
    ):
        name = f"{side}layers.0.qkv_proj.weight"
        assert std_of(recipe, name, kind="linear") == pytest.approx(xavier)
    one = recipes.deepnorm(encoder_layers=6, branches="*.up.weight")
    assert std_of(one, "0.up.weight") == pytest.approx(48**-0.25 * xavier)
    bare = std_of(recipes.deepnorm(encoder_layers=6), "fc1.weight", kind="linear")
    assert bare == pytest.approx(48**-0.25 * xavier)


def test_a_pattern_takes_nothing_else() -> None:
    for recipe, name in (
        (recipes.switch_router(), "layers.0.mlp.gate_proj.weight"),
        (recipes.adaln_zero(), "decoder.proj_out.weight"),
        (recipes.fixup(4), "model.logit_scale"),
    ):
        assert recipe.find(portinit.Parameter(name, (8, 8))) is None
    norm = portinit.Parameter("layers.0.input_layernorm.weight", (8,))
    found = recipes.gpt_neox(layers=2, width=8).find(norm)
    assert found is not None
    assert found.initializer == portinit.ones


def test_rules_for_parts_of_a_model() -> None:
    lora = recipes.lora() + recipes.torch_defaults()
    assert std_of(lora, "q.lora_B.weight") == 0
    down = nn.Parameter(torch.empty(4, 64))
    nn.init.kaiming_uniform_(down, a=math.sqrt(5))
    assert std_of(lora, "q.lora_A.weight", (4, 64)) == pytest.approx(1 / 8 / math.sqrt(3))
    router = std_of(recipes.switch_router(), "router.weight", (4, 250))
    assert router == pytest.approx(math.sqrt(0.1 / 250), rel=1e-6)
    assert std_of(recipes.adaln_zero(), "final_layer.linear.weight") == 0
    assert std_of(recipes.rezero(), "blocks.0.resweight", (1,)) == 0
