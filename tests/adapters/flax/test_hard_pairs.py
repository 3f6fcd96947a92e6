"""Twins whose names and shapes do not tell: the two forward passes do, and no table is needed.

Each pair is filled from one recipe that draws every parameter. The models compute apart, so that
a wrong pairing or a wrong layout shows in their outputs.
"""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from flax import nnx
from torch.nn import functional

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe, RecipeError
from portinit_flax import Evidence, LayoutEvidence

KEY = portinit.key(11)
DRAWN = Recipe(
    [
        ("*num_batches_tracked", portinit.zeros),
        ("*var", portinit.uniform(0.5, 1.5)),
        ("*", portinit.normal(std=0.4)),
    ]
)
X = np.random.default_rng(3).standard_normal((2, 5, 8)).astype(np.float32)
IMAGE = np.random.default_rng(4).standard_normal((2, 4, 6, 6)).astype(np.float32)
TOKENS = np.array([[1, 4, 12, 0], [3, 3, 7, 2]])


class Torch(torch.nn.Module):
    """A module of some parts and a forward pass over them."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Any) -> Any:
        return self.run(self, x)


def sorted_tree(tree: Any) -> Any:
    """A tree as JAX's transformations return it: nothing is left of the order of definition."""
    return jax.tree.map(lambda x: x, tree)


def match(model: torch.nn.Module, x: Any, tree: Any, call: Any, flax_x: Any, **more: Any) -> Any:
    """The matching of a tree of shapes, and the tree filled."""
    recipe = portinit_torch.bind(model, DRAWN)
    theirs = portinit_flax.uses(None, flax_x, variables=tree, call=call)
    uses = (portinit_torch.uses(model, x), theirs)
    matching = portinit_flax.match(tree, recipe, uses=uses, **more)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ arrays are matched by a guess")
        return matching, portinit_flax.initialize(tree, recipe, KEY, uses=uses, **more)


def prove(
    model: torch.nn.Module, x: Any, tree: Any, call: Any, flax_x: Any = None, **more: Any
) -> Any:
    """Match and fill both models, compare their outputs, and return the matching."""
    flax_x = x if flax_x is None else flax_x
    tree = sorted_tree(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree))
    matching, filled = match(model, x, tree, call, flax_x, **more)
    portinit_torch.initialize(model, DRAWN, KEY).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(call(filled, flax_x), expected, rtol=2e-4, atol=2e-4)
    return matching


def prove_linen(
    model: torch.nn.Module, twin: nn.Module, x: Any, flax_x: Any = None, **o: Any
) -> Any:
    shapes = jax.eval_shape(twin.init, jax.random.key(0), x if flax_x is None else flax_x)
    return prove(model, x, shapes, twin.apply, flax_x, **o)


def zeros(*shape: int) -> Any:
    return jnp.zeros(shape, jnp.float32)


Linear = torch.nn.Linear


# Square kernels: what is summed over tells how they lie


def chain(*names: str) -> Callable[[Any, Any], Any]:
    def forward(self: Any, x: Any) -> Any:
        for name in names:
            x = torch.tanh(getattr(self, name)(x))
        return x

    return forward


def three(bias: bool = True) -> Torch:
    """Three square layers whose order of definition is not that of use."""
    layers = {name: Linear(8, 8, bias=bias) for name in ("c", "a", "b")}
    return Torch(chain("a", "c", "b"), **layers)


@pytest.mark.parametrize("word", ["kernel", "w", "weight"])
@pytest.mark.parametrize("is_torchs", [True, False])
def test_a_square_kernel_lies_as_it_is_summed_over(word: str, is_torchs: bool) -> None:
    def call(tree: Any, x: Any) -> Any:
        for name in ("a", "c", "b"):
            w = tree[name][word]
            x = jnp.tanh(x @ (w.T if is_torchs else w))
        return x

    matching = prove(three(bias=False), X, {n: {word: zeros(8, 8)} for n in "abc"}, call)
    assert {pair.layout_evidence for pair in matching.pairs} == {LayoutEvidence.CONTRACTION}
    assert matching.pair(f"a/{word}").layout.is_torchs == is_torchs
    assert not matching.suspects


class TorchsOwn(nn.Module):
    """As transformers' FlaxConv1D: a kernel that is kept (out, in)."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        kernel = self.param("kernel", nn.initializers.ones, (8, x.shape[-1]))
        return jax.lax.dot_general(x, kernel.T, (((x.ndim - 1,), (0,)), ((), ())))


class ChainOfTorchsOwn(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        for name in ("a", "c", "b"):
            x = jnp.tanh(TorchsOwn(name=name)(x))
        return x


def test_a_class_that_keeps_its_kernel_as_pytorch_does() -> None:
    matching = prove_linen(three(bias=False), ChainOfTorchsOwn(), X)
    assert matching.pair("b/kernel").layout.is_torchs


def test_a_convolution_of_equal_channels_and_one_that_is_transposed() -> None:
    model = Torch(
        lambda self, x: self.up(torch.tanh(self.conv(x))),
        conv=torch.nn.Conv2d(3, 3, 3, padding=1),
        up=torch.nn.ConvTranspose2d(3, 3, 3, 3),
    )

    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = jnp.tanh(nn.Conv(3, (3, 3), name="conv")(x))
            x = nn.ConvTranspose(3, (3, 3), (3, 3), padding="VALID", name="up")(x)
            return jnp.moveaxis(x, -1, 1)

    image = IMAGE[:, :3]
    prove_linen(model, Twin(), image, np.moveaxis(image, 1, -1))


def test_heads_that_make_a_kernel_a_cube() -> None:
    class Projected(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            w, o = (self.param(n, nn.initializers.ones, (4, 4, 4)) for n in ("alpha", "omega"))
            x = jnp.tanh(jnp.einsum("btd,hkd->bthk", x, w))
            return jnp.einsum("bthk,khd->btd", x, o.transpose(1, 0, 2))

    model = Torch(lambda self, x: self.o(torch.tanh(self.p(x))), o=Linear(16, 4), p=Linear(4, 16))
    model.o, model.p = Linear(16, 4, bias=False), Linear(4, 16, bias=False)
    x = X[..., :4]
    matching = prove_linen(model, Projected(), x)
    assert matching["alpha"][0] == "p.weight"


# Names that say nothing, or the wrong thing: the turns in which data comes


class Auto(nn.Module):
    """Layers in Flax's own numbering, which is that of definition."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        last, first, middle = nn.Dense(8), nn.Dense(8), nn.Dense(8)
        return jnp.tanh(last(jnp.tanh(middle(jnp.tanh(first(x))))))


def test_flaxs_numbering_is_that_of_definition_and_data_flows_otherwise() -> None:
    model = Torch(chain("foo", "bar", "baz"), baz=Linear(8, 8), foo=Linear(8, 8), bar=Linear(8, 8))
    matching = prove_linen(model, Auto(), X)
    assert matching["Dense_1/kernel"][0] == "foo.weight"
    assert matching.pair("Dense_1/kernel").evidence is Evidence.USE


def test_an_order_of_definition_that_use_contradicts_is_said() -> None:
    class Twin(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.x, self.y = nnx.Linear(8, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.x(jnp.tanh(self.y(x)))

    twin = Twin(nnx.Rngs(0))
    model = Torch(lambda self, x: self.q(torch.tanh(self.p(x))), p=Linear(8, 8), q=Linear(8, 8))
    recipe = portinit_torch.bind(model, DRAWN)
    by_definition = portinit_flax.match(twin, recipe)
    assert by_definition["x/kernel"][0] == "p.weight"
    uses = (portinit_torch.uses(model, X), portinit_flax.uses(twin, X))
    matching = portinit_flax.match(twin, recipe, uses=uses)
    assert matching["x/kernel"][0] == "q.weight"
    assert "the order of definition says otherwise" in str(matching.pair("x/kernel"))


def test_layers_that_are_numbered_backwards() -> None:
    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for i in reversed(range(4)):
                x = jnp.tanh(nn.Dense(8, name=f"dense_{i}")(x))
            return x

    model = Torch(lambda self, x: self.layers(x))
    model.layers = torch.nn.Sequential(
        *(layer for _ in range(4) for layer in (Linear(8, 8), torch.nn.Tanh()))
    )
    assert prove_linen(model, Twin(), X)["dense_3/kernel"][0] == "layers.0.weight"


def attention(q: str, k: str, v: str, o: str) -> Callable[[Any, Any], Any]:
    def forward(self: Any, x: Any) -> Any:
        query, key, value = (getattr(self, name)(x) for name in (q, k, v))
        return getattr(self, o)(functional.scaled_dot_product_attention(query, key, value))

    return forward


class Attention(nn.Module):
    names: tuple[str | None, ...]
    order: str = "qkv"

    @nn.compact
    def __call__(self, x: Any) -> Any:
        names = dict(zip("qkvo", self.names, strict=True))
        made = {one: nn.Dense(8, name=names[one])(x) for one in self.order}
        q, k, v = (made[one][..., None, :] for one in "qkv")
        return nn.Dense(8, name=names["o"])(nn.dot_product_attention(q, k, v)[..., 0, :])


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("query", "key", "value", "out"), "vkq"),
        (("q", "k", "v", "proj"), "kvq"),
        (("wq", "wk", "wv", "wo"), "vqk"),
        (("zeta", "alpha", "beta", "aleph"), "qkv"),
        (("zeta", "alpha", "beta", "aleph"), "vqk"),
        ((None, None, None, None), "qvk"),
    ],
)
@pytest.mark.parametrize("ours", ["q_proj k_proj v_proj o_proj", "four three two one"])
def test_projections_of_equal_shapes(names: Any, order: str, ours: str) -> None:
    q, k, v, o = ours.split()
    parts = {name: Linear(8, 8) for name in (o, v, k, q)}
    prove_linen(Torch(attention(q, k, v, o), **parts), Attention(names, order), X)


def test_a_gate_is_the_one_that_goes_through_the_activation() -> None:
    def forward(self: Any, x: Any) -> Any:
        return self.lin3(functional.silu(self.lin1(x)) * self.lin2(x))

    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            up, gate = nn.Dense(8)(x), nn.Dense(8)(x)
            return nn.Dense(8)(up * nn.silu(gate))

    model = Torch(forward, **{f"lin{i}": Linear(8, 8) for i in (3, 2, 1)})
    assert prove_linen(model, Twin(), X)["Dense_1/kernel"][0] == "lin1.weight"


def test_an_embedding_and_a_head_of_one_shape() -> None:
    model = Torch(
        lambda self, t: self.a(torch.tanh(self.b(t))),
        a=Linear(8, 13, bias=False),
        b=torch.nn.Embedding(13, 8),
    )

    def call(tree: Any, t: Any) -> Any:
        return jnp.tanh(tree["zulu"][t]) @ tree["alpha"].T

    matching = prove(model, TOKENS, {"alpha": zeros(13, 8), "zulu": zeros(13, 8)}, call)
    assert matching["zulu"][0] == "b.weight"


def test_norms_of_other_words_that_frame_a_layer() -> None:
    model = Torch(
        lambda self, x: self.n1(self.lin(self.n2(x))),
        n1=torch.nn.LayerNorm(8, eps=1e-6),
        n2=torch.nn.LayerNorm(8, eps=1e-6),
        lin=Linear(8, 8),
    )

    def norm(tree: Any, x: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return x * tree["kernel"] + tree["offset"]

    def call(tree: Any, x: Any) -> Any:
        x = norm(tree["ln_zero"], x) @ tree["mix"]["w"] + tree["mix"]["b"]
        return norm(tree["ln_after"], x)

    tree: Any = {n: {"kernel": zeros(8), "offset": zeros(8)} for n in ("ln_zero", "ln_after")}
    tree["mix"] = {"w": zeros(8, 8), "b": zeros(8)}
    matching = prove(model, X, tree, call)
    assert matching["ln_zero/kernel"][0] == "n2.weight"


def test_vectors_of_unknown_words_are_told_by_what_is_done_with_them() -> None:
    model = Torch(lambda self, x: self.norm(x), norm=torch.nn.LayerNorm(8, eps=1e-6))

    def call(tree: Any, x: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return tree["n"]["zz"] * x + tree["n"]["aa"]

    matching = prove(model, X, {"n": {"aa": zeros(8), "zz": zeros(8)}}, call)
    assert matching["n/zz"][0] == "norm.weight"


def test_batch_norms_in_custom_words() -> None:
    model = Torch(
        lambda self, x: self.second(torch.tanh(self.first(x.mT))).mT,
        second=torch.nn.BatchNorm1d(8),
        first=torch.nn.BatchNorm1d(8),
    )

    def norm(tree: Any, x: Any) -> Any:
        x = (x - tree["moving_mean"]) * jax.lax.rsqrt(tree["moving_var"] + 1e-5)
        return x * tree["gamma"] + tree["beta"]

    def call(tree: Any, x: Any) -> Any:
        return norm(tree["alpha"], jnp.tanh(norm(tree["omega"], x)))

    words = ("moving_mean", "moving_var", "gamma", "beta")
    tree = {name: {word: zeros(8) for word in words} for name in ("alpha", "omega")}
    assert prove(model, X, tree, call)["omega/gamma"][0] == "first.weight"


def test_branches_that_run_in_another_order() -> None:
    def forward(self: Any, x: Any) -> Any:
        y = self.conv2(torch.relu(self.conv1(x)))
        return self.conv4(torch.relu(y + self.conv3(x)))

    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            shortcut = nn.Conv(4, (3, 3))(x)
            y = nn.Conv(4, (3, 3))(nn.relu(nn.Conv(4, (3, 3))(x)))
            return jnp.moveaxis(nn.Conv(4, (3, 3))(nn.relu(y + shortcut)), -1, 1)

    parts = {f"conv{i}": torch.nn.Conv2d(4, 4, 3, padding=1) for i in (1, 2, 3, 4)}
    matching = prove_linen(Torch(forward, **parts), Twin(), IMAGE, np.moveaxis(IMAGE, 1, -1))
    assert matching["Conv_0/kernel"][0] == "conv3.weight"
    assert matching["Conv_2/kernel"][0] == "conv1.weight"


def test_lists_that_begin_with_0_and_with_1_are_no_certain_pairs() -> None:
    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for _ in range(4):
                x = jnp.tanh(nn.Dense(8)(x))
            return x

    model = Torch(
        chain("dense1", "dense2", "dense3", "dense4"),
        **{f"dense{i}": Linear(8, 8) for i in (1, 2, 3, 4)},
    )
    shapes = jax.eval_shape(Twin().init, jax.random.key(0), X)
    matching = portinit_flax.match(shapes, portinit_torch.bind(model, DRAWN))
    assert matching["Dense_1/kernel"][0] == "dense2.weight"
    assert prove_linen(model, Twin(), X)["Dense_0/kernel"][0] == "dense1.weight"


class ScannedLayer(nn.Module):
    @nn.compact
    def __call__(self, x: Any, _: Any) -> Any:
        gate, up = nn.Dense(8)(x), nn.Dense(8)(x)
        return x + nn.Dense(8)(up * nn.sigmoid(gate)), None


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        scan = nn.scan(
            ScannedLayer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = scan()(nn.Dense(8)(x), None)
        return nn.Dense(8)(x)


def test_scanned_layers_in_flaxs_own_numbering() -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.third, self.second, self.first = Linear(8, 8), Linear(8, 8), Linear(8, 8)

        def forward(self, x: Any) -> Any:
            return x + self.third(torch.sigmoid(self.first(x)) * self.second(x))

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.end, self.start = Linear(8, 8), Linear(8, 8)
            self.body = torch.nn.ModuleList(Layer() for _ in range(3))

        def forward(self, x: Any) -> Any:
            x = self.start(x)
            for layer in self.body:
                x = layer(x)
            return self.end(x)

    matching = prove_linen(Model(), Scanned(), X)
    assert matching["Dense_0/kernel"][0] == "start.weight"


# Trees of other libraries


def test_a_haiku_model() -> None:
    hk = pytest.importorskip("haiku")

    def forward(x: Any) -> Any:
        x = hk.nets.MLP([8, 8, 8], activation=jnp.tanh, name="z")(x)
        return hk.Linear(8, name="a")(hk.LayerNorm(-1, True, True, eps=1e-6)(x))

    twin = hk.without_apply_rng(hk.transform(forward))
    tree = jax.eval_shape(twin.init, jax.random.key(0), X)
    model = Torch(
        lambda self, x: self.head(self.norm(self.l2(torch.tanh(self.l1(torch.tanh(self.l0(x))))))),
        head=Linear(8, 8),
        norm=torch.nn.LayerNorm(8, eps=1e-6),
        **{f"l{i}": Linear(8, 8) for i in (2, 1, 0)},
    )
    assert prove(model, X, tree, twin.apply)["a/w"][0] == "head.weight"


def test_an_equinox_model() -> None:
    eqx = pytest.importorskip("equinox")

    class Twin(eqx.Module):
        a: eqx.nn.Linear
        b: eqx.nn.Linear
        norm: eqx.nn.LayerNorm

        def __call__(self, x: Any) -> Any:
            return self.a(jnp.tanh(self.b(self.norm(x))))

    keys = jax.random.split(jax.random.key(0))
    made = [eqx.nn.Linear(8, 8, key=key) for key in keys]
    twin = Twin(*made, eqx.nn.LayerNorm(8))
    arrays, rest = eqx.partition(twin, eqx.is_array)

    def call(tree: Any, x: Any) -> Any:
        return jax.vmap(jax.vmap(eqx.combine(tree, rest)))(x)

    model = Torch(
        lambda self, x: self.second(torch.tanh(self.first(self.ln(x)))),
        second=Linear(8, 8),
        first=Linear(8, 8),
        ln=torch.nn.LayerNorm(8),
    )
    matching = prove(model, X, arrays, call)
    assert matching["b/weight"][0] == "first.weight"
    assert matching.pair("b/weight").layout.is_torchs


# One side has more, or another nesting


def test_a_pooler_that_one_side_lacks() -> None:
    model = Torch(
        lambda self, x: self.two(torch.tanh(self.one(x))),
        pooler=Linear(8, 8),
        one=Linear(8, 8),
        two=Linear(8, 8),
    )

    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            later, sooner = nn.Dense(8), nn.Dense(8)
            return later(jnp.tanh(sooner(x)))

    with pytest.raises(RecipeError, match=r"pooler.weight: no such parameter in the tree"):
        prove_linen(model, Twin(), X)
    prove_linen(model, Twin(), X, ignore="pooler.*")


def test_prefixes_and_levels_that_one_side_lacks() -> None:
    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(8, name="omega")(jnp.tanh(nn.Dense(8, name="sigma")(x)))

    inner = Torch(lambda self, x: self.w2(torch.tanh(self.w1(x))), w2=Linear(8, 8), w1=Linear(8, 8))
    body = Torch(lambda self, x: self.backbone(x), backbone=inner)
    prove_linen(Torch(lambda self, x: self.model(x), model=body), Twin(), X)


def test_patches_as_a_convolution_and_as_a_matrix() -> None:
    model = Torch(
        lambda self, x: self.b(torch.tanh(self.a(x)).flatten(2).mT),
        b=Linear(16, 16),
        a=torch.nn.Conv2d(4, 16, 2, 2),
    )

    def call(tree: Any, x: Any) -> Any:
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
        x = jnp.tanh(x.reshape(n, -1, 16) @ tree["zz"]["w"] + tree["zz"]["b"])
        return x @ tree["aa"]["w"] + tree["aa"]["b"]

    tree = {name: {"w": zeros(16, 16), "b": zeros(16)} for name in ("aa", "zz")}
    matching = prove(model, IMAGE, tree, call, np.moveaxis(IMAGE, 1, -1))
    assert matching["zz/w"][0] == "a.weight"


def test_two_towers_of_one_shape() -> None:
    def tower() -> torch.nn.Module:
        return torch.nn.Sequential(Linear(8, 8), torch.nn.Tanh(), Linear(8, 8))

    def call(tree: Any, x: Any) -> Any:
        for name in ("right", "left"):
            x = jnp.tanh(jnp.tanh(x @ tree[name]["p"]) @ tree[name]["o"])
        return x

    model = Torch(chain("b", "a"), a=tower(), b=tower())
    for part in model.modules():
        if isinstance(part, Linear):
            part.bias = None
    tree = {name: {"p": zeros(8, 8), "o": zeros(8, 8)} for name in ("left", "right")}
    assert prove(model, X, tree, call)["right/p"][0] == "b.0.weight"


def test_a_name_whose_shape_is_another_is_tried_elsewhere() -> None:
    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(3, name="body")(jnp.tanh(nn.Dense(5, name="head")(x)))

    model = Torch(
        lambda self, x: self.head(torch.tanh(self.body(x))), head=Linear(5, 3), body=Linear(8, 5)
    )
    matching = prove_linen(model, Twin(), X)
    assert matching["head/kernel"][0] == "body.weight"
    assert matching.pair("head/kernel").note == "head.weight, its own name, has another shape"
    assert matching.pair("head/kernel") in matching.suspects
    wide = Torch(lambda self, x: self.head(x), head=Linear(8, 4))
    tree = {"head": {"kernel": zeros(8, 3), "bias": zeros(3)}}
    with pytest.raises(RecipeError, match=r"head.weight: the recipe has \(4, 8\), got \(3, 8\)"):
        portinit_flax.match(tree, portinit_torch.bind(wide, DRAWN))


def test_a_lost_prefix_leaves_a_pair_certain_if_the_turns_agree() -> None:
    class Twin(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(8, name="fc_two")(jnp.tanh(nn.Dense(8, name="fc_one")(x)))

    inner = Torch(chain("fc_one", "fc_two"), fc_one=Linear(8, 8), fc_two=Linear(8, 8))
    inner.run = lambda self, x: self.fc_two(torch.tanh(self.fc_one(x)))
    matching = prove_linen(Torch(lambda self, x: self.model(x), model=inner), Twin(), X)
    assert not matching.suspects


def rules(shapes: dict[str, tuple[int, ...]]) -> Recipe:
    return Recipe([portinit.Rule(n, portinit.normal(), shape=s) for n, s in shapes.items()])


def test_a_list_of_lists_is_no_stack() -> None:
    each = {"bn1.weight": (4,), "conv1.weight": (4, 4, 1, 1)}
    ours = rules(
        {f"blocks.{i}.{j}.{n}": s for i in (0, 1) for j in (0, 1) for n, s in each.items()}
    )
    block = {"bn1": {"scale": zeros(4)}, "conv1": {"kernel": zeros(1, 1, 4, 4)}}
    matching = portinit_flax.match({"blocks": {str(k): block for k in range(4)}}, ours)
    assert matching["blocks/2/bn1/scale"][0] == "blocks.1.0.bn1.weight"
    assert len(matching) == 8


@pytest.mark.parametrize("layers", [(0, 1), (0, 1, 2, 3), (0, 2, 3)])
def test_a_stack_must_have_every_layer(layers: tuple[int, ...]) -> None:
    tree = {"blocks": {"fc": {"kernel": zeros(3, 4, 5)}}}
    ours = rules({f"blocks.{i}.fc.weight": (5, 4) for i in layers})
    with pytest.raises(RecipeError, match="blocks/fc/kernel: the recipe has no such name"):
        portinit_flax.match(tree, ours)
    whole = portinit_flax.match(tree, rules({f"blocks.{i}.fc.weight": (5, 4) for i in range(3)}))
    assert whole["blocks/2/fc/kernel"][0] == "blocks.2.fc.weight"
