"""What a constructor may do: each idiom is replayed or named; none is wrong in silence."""

import concurrent.futures
import contextlib
import copy
import functools
import io
import math
import os
import random
import threading
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.support.traces import Build, Holder, built, compare, raw, traced
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils import parametrizations

import portinit
import portinit_torch
from portinit_torch import TraceError, trace

EXACT: dict[str, Build] = {}
NEAR: dict[str, tuple[Build, float]] = {}
NAMED: dict[str, tuple[Build, tuple[str, ...]]] = {}
STOPPED: dict[str, tuple[Build, str]] = {}


def exact(build: Build) -> Build:
    EXACT[build.__name__] = build
    return build


def named(*lost: str) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        NAMED[build.__name__] = build, lost
        return build

    return add


# Devices


@exact
def statistics_of_known_values() -> nn.Module:
    norm = nn.BatchNorm1d(3)
    norm(torch.arange(24.0).reshape(8, 3))
    norm(torch.ones(8, 3))
    return nn.Sequential(norm, nn.Linear(3, 2))


@exact
def storages_are_told_apart() -> nn.Module:
    layers = nn.Linear(3, 3), nn.Linear(3, 3)
    places = {layer.weight.untyped_storage().data_ptr() for layer in (*layers, layers[0])}
    return nn.Linear(len(places), 3)


@exact
def skipped() -> nn.Module:
    first = nn.utils.skip_init(nn.Linear, 3, 3)
    nn.init.ones_(first.weight), nn.init.zeros_(first.bias)
    return nn.Sequential(first, nn.Linear(3, 3))


@exact
def made_on_meta_and_reset() -> nn.Module:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    model.to_empty(device="cpu")
    for layer in model:
        layer.reset_parameters()
    return model


@exact
def a_default_device_of_meta() -> nn.Module:
    torch.set_default_device("meta")
    try:
        model = nn.Linear(8, 8)
    finally:
        torch.set_default_device(None)
    return model.to_empty(device="cpu").apply(lambda layer: layer.reset_parameters())


@exact
def assigned_to_a_meta_model() -> nn.Module:
    model = nn.Linear(4, 3, device="meta")
    model.load_state_dict({"weight": torch.randn(3, 4), "bias": torch.zeros(3)}, assign=True)
    return model


@exact
def a_throw_away_model_on_meta() -> nn.Module:
    with torch.device("meta"):
        width = nn.Conv2d(3, 8, 3)(torch.empty(1, 3, 9, 9)).shape[1]
    return nn.Linear(width, 2)


@exact
def whole_model_on_another_device_is_read_as_the_cpus() -> nn.Module:
    return nn.Linear(4, 3, device=None)


@named("x")
def exported_by_dlpack() -> nn.Module:
    model = nn.Linear(3, 3)
    weight = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(model.weight.detach()))
    model.register_buffer("x", weight.clone())
    return model


@named("x")
def read_by_dlpack() -> nn.Module:
    model = nn.Linear(3, 3)
    model.register_buffer("x", torch.tensor(np.from_dlpack(model.weight.detach()).sum()))
    return model


@named("b")
def draws_elsewhere_take_nothing_from_the_cpu() -> nn.Module:
    a = torch.randn(20)
    b = torch.randn(20, device="cuda" if tracing() else "cpu", generator=None if tracing() else G)
    return Holder(a=a, b=b, c=torch.randn(20))


G = torch.Generator().manual_seed(99)


def tracing() -> bool:
    return isinstance(torch.empty(0), FakeTensor)


@named("meta.weight", "meta.bias")
def a_part_stays_on_meta() -> nn.Module:
    model = nn.Module()
    model.meta = nn.Linear(3, 3, device="meta")
    model.fc = nn.Linear(3, 3)
    return model


# Threads


@exact
def built_in_a_thread() -> nn.Module:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(nn.Linear, 3, 3).result()


@exact
def built_in_threads_one_after_another() -> nn.Module:
    made: list[nn.Module] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: made.append(nn.Linear(3, 3)))
        thread.start()
        thread.join()
    return nn.Sequential(*made, nn.Linear(3, 3))


# Random numbers from outside of torch


@named("w")
def numpys_generator() -> nn.Module:
    return Holder(w=torch.from_numpy(np.random.randn(4)), b=torch.randn(4))  # noqa: NPY002


@named("w")
def numpys_new_generator() -> nn.Module:
    rng = np.random.default_rng()
    return Holder(w=torch.tensor(rng.standard_normal(4)), b=torch.randn(4))


@named("w")
def pythons_number_as_a_bound() -> nn.Module:
    return Holder(w=torch.empty(4).uniform_(0, random.random()), b=torch.randn(4))


@named("w")
def a_bound_of_numpys_new_generator() -> nn.Module:
    return Holder(w=torch.randn(4) * np.random.default_rng().uniform(), b=torch.randn(4))


@named("w")
def the_systems_random_bytes() -> nn.Module:
    return Holder(w=torch.full((3,), os.urandom(4)[0] / 7), b=torch.randn(4))


@named("w")
def a_clock() -> nn.Module:
    return Holder(w=torch.full((3,), time.perf_counter()), b=torch.randn(4))


@named("w")
def torchs_seed_for_numpy() -> nn.Module:
    rng = np.random.RandomState(torch.initial_seed() % 2**32)
    return Holder(w=torch.tensor(rng.randn(4)).float(), b=torch.randn(4))


@named("w")
def the_default_generators_seed() -> nn.Module:
    return Holder(w=torch.full((2,), float(torch.default_generator.initial_seed() % 1000)))


@exact
def numpy_seeded_by_the_constructor() -> nn.Module:
    rng = np.random.RandomState(3)
    return Holder(w=torch.from_numpy(rng.randn(4)), b=torch.randn(4))


@named("w")
def which_layer_is_chosen_by_python() -> nn.Module:
    order = [0.0, 1.0] if random.random() < 0.5 else [1.0, 0.0]
    return Holder(w=torch.tensor([*order, random.random()]), b=torch.randn(4))


# Generators


@exact
def the_default_generator_by_name() -> nn.Module:
    return Holder(w=torch.rand(4, generator=torch.default_generator), b=torch.rand(4))


@exact
def a_constant_by_monte_carlo() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1000, generator=generator)
    scale = z.relu().pow(2).mean().pow(-0.5).item()
    model = nn.Linear(3, 3)
    model.weight.data.mul_(scale)
    return model


@exact
def a_decision_of_a_seeded_generator() -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    width = 3 + int(torch.randint(0, 5, (), generator=generator))
    return nn.Linear(3, width)


# Values that are read


@exact
def an_assertion() -> nn.Module:
    model = nn.Linear(3, 3)
    assert torch.isfinite(model.weight).all()
    if model.weight.abs().max() > 10:
        raise ValueError("too large")
    return model


@exact
def a_log_line() -> nn.Module:
    model = nn.Linear(3, 3)
    model.note = f"{model.weight.std().item():.3f} {model.bias.tolist()} {model.weight.norm()}"
    return model


@named("w")
def a_number_that_was_read() -> nn.Module:
    w = torch.randn(20)
    return Holder(w=w / float(np.linalg.norm(w.numpy())), b=torch.randn(4))


@named("w")
def a_square_root_of_a_number_that_was_read() -> nn.Module:
    std = math.sqrt(torch.rand(()).item())
    return Holder(w=torch.empty(4).normal_(0, std), b=torch.randn(4))


@named("w")
def drawn_again_until_it_suits() -> nn.Module:
    w = torch.randn(3)
    while w.abs().max() > 1.5:
        w = torch.randn(3)
    return Holder(w=w)


@named("w")
def a_seed_that_is_drawn() -> nn.Module:
    seed = int(torch.randint(0, 2**31, ()))
    generator = torch.Generator().manual_seed(seed)
    return Holder(w=torch.randn(4, generator=generator), b=torch.randn(4))


@named("w")
def a_permutation_that_is_read() -> nn.Module:
    order = torch.randperm(4).tolist()
    return Holder(w=torch.arange(4.0)[order], b=torch.randn(4))


@named("w")
def a_branch() -> nn.Module:
    w = torch.randn(4)
    return Holder(w=-w if w.sum() > 0 else w, b=torch.randn(4))


@named("w")
def a_rare_branch() -> nn.Module:
    """A question that hardly any seed answers with yes."""
    w = torch.randn(4)
    return Holder(w=torch.zeros(4) if w.abs().max() > 6 else w, b=torch.randn(4))


@named("w")
def a_fallback() -> nn.Module:
    w = torch.randn(4)
    try:
        assert w.sum() > 0
    except AssertionError:
        w = torch.zeros(4)
    return Holder(w=w, b=torch.randn(4))


@named("w")
def a_coin_of_two_sides() -> nn.Module:
    return Holder(w=torch.tensor([1.0, 2.0]) * int(torch.randint(0, 2, ())), b=torch.randn(4))


@named("w")
def clamped_where_it_is_outside() -> nn.Module:
    """torch's own trunc_normal_ asks this too, and goes on otherwise."""
    w = torch.randn(9)
    if ((w < -2) | (w > 2)).any():
        w.clamp_(-2, 2)
    return Holder(w=w, b=torch.randn(4))


@named("fc.parametrizations.weight.0.base")
def an_orthogonal_parametrization() -> nn.Module:
    model = nn.Module()
    model.fc = parametrizations.orthogonal(nn.Linear(4, 4))
    return model


# A forward pass


@named("0.running_mean", "0.running_var")
def batch_normalisation_in_training() -> nn.Module:
    norm = nn.BatchNorm1d(3)
    norm(torch.randn(5, 3))
    return nn.Sequential(norm, nn.Linear(3, 3))


@exact
def batch_normalisation_of_known_values() -> nn.Module:
    norm = nn.BatchNorm1d(3, momentum=None)
    norm(torch.ones(5, 3))
    return nn.Sequential(norm, nn.Linear(3, 3))


@named("0.running_mean", "0.running_var")
def instance_normalisation_in_training() -> nn.Module:
    norm = nn.InstanceNorm1d(3, track_running_stats=True)
    norm(torch.randn(2, 3, 5))
    return nn.Sequential(norm, nn.Linear(3, 3))


@exact
def batch_normalisation_in_evaluation() -> nn.Module:
    norm = nn.BatchNorm1d(3).eval()
    return nn.Sequential(norm, nn.Linear(norm(torch.zeros(5, 3)).shape[1], 3))


@exact
def dropout_in_training() -> nn.Module:
    f = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Dropout(0.0))
    return nn.Sequential(f, nn.Linear(f(torch.zeros(1, 4)).shape[1], 2))


@exact
def attention_without_dropout() -> nn.Module:
    q = torch.zeros(1, 2, 4, 8)
    width = nn.functional.scaled_dot_product_attention(q, q, q).shape[-1]
    return nn.Linear(width, 2)


@exact
def a_recurrent_forward() -> nn.Module:
    lstm = nn.LSTM(3, 4, 2)
    return nn.Sequential(lstm, nn.Linear(lstm(torch.zeros(5, 1, 3))[0].shape[-1], 2))


@exact
def lazy_layers_after_a_dry_run() -> nn.Module:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyBatchNorm1d(), nn.LazyLinear(2))
    model.eval()(torch.zeros(1, 5))
    return model.double()


@exact
def a_lazy_convolution() -> nn.Module:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 3, 6, 6))
    return copy.deepcopy(model)


# Samplers


@exact
def samplers() -> nn.Module:
    return Holder(
        heads=torch.empty(40).bernoulli_(0.3),
        chance=torch.bernoulli(torch.linspace(0, 1, 20)),
        precise=torch.bernoulli(torch.linspace(0, 1, 20).double()),
        mask=torch.empty(4, 4, dtype=torch.bool).bernoulli_(0.5),
        wait=torch.empty(40).exponential_(2.0),
        heavy=torch.empty(40).cauchy_(1.0, 2.0),
        tries=torch.empty(40).geometric_(0.3),
        size=torch.empty(40).log_normal_(0.3, 0.5),
        whole=torch.empty(40).random_(),
        bits=torch.empty(40, dtype=torch.int64).random_(),
        picked=torch.multinomial(torch.linspace(0.1, 1, 20), 5),
        one=torch.multinomial(torch.rand(3, 20), 1),
        last=torch.randn(20),
    )


@exact
def normals_of_tensors() -> nn.Module:
    std = torch.linspace(0.1, 1, 16)
    return Holder(
        a=torch.normal(0.5, std),
        b=torch.normal(std, 0.3),
        c=torch.normal(std, std),
        d=torch.distributions.Normal(torch.zeros(16), std).sample(),
        e=torch.distributions.Uniform(torch.zeros(16), std).sample(),
        f=torch.distributions.Bernoulli(std).sample(),
        g=torch.distributions.Exponential(std).sample(),
        last=torch.randn(20),
    )


@named("a", "b")
def an_unknown_sampler_stands_in_the_way() -> nn.Module:
    first = torch.randn(4)
    return Holder(first=first, a=torch.poisson(torch.ones(4)), b=torch.randn(4))


# Moving elements


@exact
def indexing() -> nn.Module:
    w, place, table = torch.randn(6, 5), torch.randperm(6), torch.arange(30.0).view(6, 5)
    known = torch.tensor([3, 1, 1])
    filled = torch.zeros(6, 5)
    filled[place[:3]] = w[:3]
    filled[:, 2] = 7
    masked = torch.zeros(6, 5)
    masked[torch.eye(6, 5, dtype=torch.bool)] = 2.0
    scattered = torch.zeros(3, 5).scatter_(0, known[None].expand(1, 3) % 3, w[:1, :3])
    return Holder(
        inverse=torch.argsort(place),
        rows=w[place],
        chosen=table[place],
        both=w[known, known],
        selected=w[torch.eye(6, 5, dtype=torch.bool)],
        taken=w.index_select(1, known),
        gathered=w.gather(1, known[None].expand(6, 3)),
        embedded=nn.functional.embedding(known, w),
        filled=filled,
        masked=masked,
        scattered=scattered,
        sorted=w.sort(0, descending=True).values,
        order=w.argsort(1),
        top=w.topk(2, 1).values,
        largest=w.max(1).values,
        where=w.argmax(0),
        rolled=w.roll(2, 1),
        padded=nn.functional.pad(w, (1, 2, 0, 1), value=3.0),
        diagonal=torch.diag(w[:, 0]),
        upper=torch.diagonal(w, 1).clone(),
        embedding=torch.diag_embed(w[:, :2]),
        running=w.cumsum(0),
        product=w.cumprod(1),
        strided=w[::2, 1::3].clone(),
        repeated=w.repeat_interleave(2, 0),
    )


@exact
def strided_writes() -> nn.Module:
    w, e = torch.empty(6, 4), torch.empty(5, 6)
    w[::2] = 1
    w[1::2].normal_()
    e[:, ::2].uniform_()
    e[:, 1::2] = 0
    return Holder(w=w, e=e)


@exact
def complex_values() -> nn.Module:
    c = torch.randn(4, 2, dtype=torch.cfloat)
    parts = torch.zeros(3, dtype=torch.cfloat)
    torch.view_as_real(parts)[:, 1] = torch.rand(3)
    return Holder(
        pairs=torch.view_as_real(c).clone(),
        real=c.real.clone(),
        imaginary=c.imag.clone(),
        conjugate=c.conj().resolve_conj(),
        whole=torch.complex(torch.rand(3), torch.rand(3)),
        constant=torch.ones(3, dtype=torch.complex64) * 1,
        parts=parts,
        bits=torch.randn(20).view(torch.int32).clone(),
    )


@exact
def tensors_of_tensors() -> nn.Module:
    x, w = torch.linspace(0, 1, 3), torch.rand(3)
    return Holder(
        ends=torch.tensor([x[0], x[2]]),
        drawn=torch.tensor([w[0], w[2], 1.0]),
        nested=torch.tensor([[w[0], 2], [3, w[1]]]),
    )


@exact
def large_tables() -> nn.Module:
    """More than 2^20 elements that no draw has a part in."""
    angles = torch.outer(torch.arange(4096.0), torch.linspace(0.01, 1, 320))
    return Holder(
        ids=torch.arange(2**20 + 1),
        angles=angles.cos(),
        eye=torch.eye(1100),
        mask=torch.full((1100, 1100), -math.inf).triu(1),
        last=torch.randn(4),
    )


@exact
def nothing_in_it() -> nn.Module:
    return nn.ModuleList([Holder(tokens=torch.empty(1, 0, 8)), nn.Linear(0, 4), nn.Linear(3, 3)])


@exact
def a_class_of_tensors() -> nn.Module:
    class Tagged(torch.Tensor):
        pass

    model = nn.Linear(3, 3).share_memory()
    model.tagged = nn.Parameter(torch.randn(3).as_subclass(Tagged))
    return model


@exact
def scripted() -> nn.Module:
    return nn.Sequential(torch.jit.script(nn.Linear(3, 3)), nn.Linear(3, 3))


@exact
def averaged() -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))


# Near


def near(tolerance: float) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        NEAR[build.__name__] = build, tolerance
        return build

    return add


@near(2e-5)
def linear_algebra() -> nn.Module:
    w = torch.randn(5, 5)
    spd = w @ w.T + 5 * torch.eye(5)
    q = torch.linalg.qr(torch.randn(4, 4))[0]
    p, lower, upper = torch.linalg.lu(q)
    known = torch.linspace(0, 1, 6)[:, None] ** torch.arange(4)
    return Holder(
        einsum=torch.einsum("ir,ro->io", torch.randn(4, 2), torch.randn(2, 3)),
        product=torch.mv(w, w[0]),
        added=torch.addmm(w, w, w, beta=0.5, alpha=2.0),
        stacked=torch.bmm(torch.randn(2, 3, 4), torch.randn(2, 4, 3)),
        p=p,
        lower=lower,
        upper=upper,
        inverse=torch.linalg.inv(spd),
        solved=torch.linalg.solve(spd, w),
        root=torch.linalg.cholesky(spd),
        triangular=torch.linalg.solve_triangular(spd.triu(), w, upper=True),
        exponential=torch.matrix_exp(w / 10),
        pseudo=torch.linalg.pinv(spd),
        determinant=torch.linalg.det(q),
        values=torch.linalg.svdvals(w),
        fitted=torch.linalg.lstsq(known, torch.rand(6, 3)).solution / 100,
    )


@near(1e-6)
def functions() -> nn.Module:
    w = torch.rand(6, 7) + 0.1
    return Holder(
        polar=torch.view_as_real(torch.polar(w, w)).clone(),
        softmax=w.softmax(-1),
        softplus=nn.functional.softplus(w),
        spread=w.std(1),
        variance=w.var(0, unbiased=False),
        product=w.prod(1),
        rest=w.remainder(0.3),
        down=torch.div(w, 0.3, rounding_mode="floor"),
        between=torch.lerp(w, w + 1, 0.3),
        tangent=torch.tan(w),
        absolute=w.norm(p=1, dim=1),
        largest=torch.linalg.vector_norm(w, math.inf, dim=0),
    )


@near(1e-6)
def spectral_norm() -> nn.Module:
    return parametrizations.spectral_norm(nn.Linear(4, 3))


# What stops a trace


def stopped(message: str) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        STOPPED[build.__name__] = build, message
        return build

    return add


@stopped(r"reads a random value .* the model that it builds depends on")
def a_drawn_width() -> nn.Module:
    return nn.Linear(3, 3 + int(torch.randint(0, 9, ())))


@stopped("Python's random numbers")
def a_width_of_pythons() -> nn.Module:
    return nn.Linear(3, 3 + random.randrange(10**6) % 1009)


@stopped("a tensor from outside the constructor is written")
def a_refusal_that_is_caught() -> nn.Module:
    model = nn.Linear(3, 3)
    try:
        OUTSIDE.normal_()
    except RuntimeError:
        nn.init.zeros_(model.weight)
    return model


OUTSIDE = torch.zeros(3)


@stopped("a tensor is pickled")
def written_to_a_file() -> nn.Module:
    model = nn.Linear(3, 3)
    torch.save(model.state_dict(), io.BytesIO())
    return model


@stopped("a storage is read or written")
def a_storage_that_is_read_within_a_try() -> nn.Module:
    model = nn.Linear(3, 3)
    try:
        first = model.weight.untyped_storage()[0]
    except NotImplementedError:
        first = 0
    model.register_buffer("first", torch.tensor(first > 127))
    return model


@stopped("a storage is read or written")
def a_storage_that_is_filled() -> nn.Module:
    model = nn.Linear(3, 3)
    model.weight.data.untyped_storage().fill_(0)
    return model


@stopped("several threads draw")
def built_in_threads_at_once() -> nn.Module:
    first_may_end = threading.Event()

    def draw_and_stay() -> None:
        nn.Linear(3, 3)
        first_may_end.wait(10)

    def draw() -> None:
        with contextlib.suppress(TraceError):
            nn.Linear(3, 3)
        first_may_end.set()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        staying = pool.submit(draw_and_stay)
        time.sleep(0.05)
        pool.submit(draw).result()
        staying.result()
    return nn.Linear(3, 3)


@pytest.mark.parametrize("name", EXACT)
def test_replayed_bit_for_bit(name):
    compare(EXACT[name])


@pytest.mark.parametrize("name", NEAR)
def test_replayed_nearly(name):
    build, tolerance = NEAR[name]
    compare(build, tolerance)
    recipe, _ = traced(build)
    assert recipe.inexact()


@pytest.mark.parametrize("name", NAMED)
def test_named_and_the_rest_replayed(name):
    build, lost = NAMED[name]
    compare(build, lost=lost)


@pytest.mark.parametrize("name", STOPPED)
def test_stopped(name):
    build, message = STOPPED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TraceError, match=message):
            trace(build)
    assert OUTSIDE.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", [*EXACT, *NAMED])
def test_a_key_fills_what_is_carried(name):
    """Whatever is carried can be drawn with a key, and two keys draw two models."""
    build = EXACT[name] if name in EXACT else NAMED[name][0]
    recipe, _ = traced(build)
    for rule in recipe.rules:
        if rule.shape is None or hasattr(rule.initializer, "reason") or rule.buffer:
            continue
        value = rule.initializer(portinit.key(1), rule.shape, layout="torch")
        assert value.shape == rule.shape


# The process


CACHE: dict[str, torch.Tensor] = {}


@functools.cache
def table(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(float(size)), torch.ones(size)


@functools.lru_cache(maxsize=4)
def noise(size: int) -> torch.Tensor:
    return torch.randn(size)


class Cached(nn.Module):
    ends: torch.Tensor | None = None

    def __init__(self, drawn: bool) -> None:
        super().__init__()
        if "grid" not in CACHE:
            CACHE["grid"] = torch.linspace(0, 1, 5)
        if Cached.ends is None:
            Cached.ends = torch.eye(3)
        self.register_buffer("grid", CACHE["grid"])
        self.register_buffer("table", table(4)[0])
        self.register_buffer("ends_", Cached.ends)
        if drawn:
            CACHE.setdefault("noise", torch.randn(4))
            self.register_buffer("noise", CACHE["noise"])
            self.register_buffer("more", noise(4))
        self.fc = nn.Linear(3, 3)


def forget() -> None:
    CACHE.clear()
    table.cache_clear()
    noise.cache_clear()
    Cached.ends = None


@pytest.mark.parametrize("drawn", [False, True])
def test_caches_hold_no_fake_tensors(drawn):
    forget()
    recipe = trace(lambda: Cached(drawn))
    assert CACHE["grid"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert table(4)[0].tolist() == [0, 1, 2, 3]
    assert torch.equal(Cached.ends, torch.eye(3))
    assert "noise" not in CACHE
    values = recipe.replay(5)
    expected = built(lambda: Cached(drawn), 5)
    forget()
    assert all(raw(values[name]) == raw(tensor) for name, tensor in expected.items())


def test_a_model_that_is_kept_is_real_after_its_trace():
    kept: list[nn.Module] = []

    def build() -> nn.Module:
        kept.append(nn.Linear(3, 3))
        return kept[-1]

    trace(build)
    for model in kept:
        assert type(model.weight) is nn.Parameter
        assert model(torch.ones(1, 3)).shape == (1, 3)
        assert model.weight.requires_grad


def test_partial_replays_say_what_they_leave_out():
    with pytest.warns(UserWarning, match="cannot be carried"):
        recipe = trace(numpys_generator)
    with pytest.raises(portinit.RecipeError, match="NumPy's random numbers"):
        recipe.replay(0)
    with pytest.warns(UserWarning, match="1 values cannot be replayed:\n  w: "):
        values = recipe.replay(0, strict=False)
    assert list(values) == ["b"]
    assert list(recipe.unreplayable()) == ["w"]


def test_a_compiled_model_has_a_recipe_that_suits_it_and_the_plain_one_has_its_bits():
    def plain() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    def compiled() -> nn.Module:
        return torch.compile(plain())

    compare(compiled)
    key = portinit.key(2)
    one = portinit_torch.initialize(compiled(), trace(compiled), key)
    other = portinit_torch.initialize(plain(), trace(plain), key)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
