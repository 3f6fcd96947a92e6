"""The words in the names of modules and parameters, and how alike two names are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache

_ROLES = {
    "weight": "kernel embedding embeddings scale negative_slope w gamma g weight",
    "bias": "b beta offset bias",
    "running_mean": "mean running_mean moving_mean",
    "running_var": "var variance running_var moving_variance moving_var",
}
_ROLE_OF = {word: role for role, words in _ROLES.items() for word in words.split()}

_ALIASES = (
    "attention attn self_attn selfattention mha mixer attend multiheadattention "
    "multiheaddotproductattention dotproductattention",
    "query q wq to_q",
    "key k wk to_k",
    "value v wv to_v",
    "out o output wo to_out proj dense_out",
    "mlp ffn ff feedforward intermediate",
    "gate w1 wi0",
    "up w3 wi1",
    "down w2 wo",
    "linear dense fc lin projection proj",
    "norm ln layernorm rmsnorm groupnorm gn rms",
    "bn batchnorm norm",
    "embed embedding embeddings emb wte token tok tokens word words",
    "pos position positions positional posemb wpe",
    "conv conv1d conv2d conv3d convolution",
    "downsample shortcut skip residual identity",
    "head classifier logits lm cls score fc predictions",
    "encoder enc",
    "decoder dec",
    "block blocks layer layers h stage stages cell group groups resblock unit units",
    "router gate gating switch",
    "expert experts",
    "input in inputs",
    "final last f top post",
    "first initial init stem pre root",
    "class cls",
    "weight kernel",
    "input_layernorm attention_norm attn_norm pre_attention_norm norm1 norm_1 ln1 ln_1 layernorm1 "
    "layer_norm1 layer_norm_1 layernorm_1 layernorm_before layer_norm_before",
    "post_attention_layernorm ffn_norm mlp_norm pre_mlp_norm norm2 norm_2 ln2 ln_2 layernorm2 "
    "layer_norm2 layer_norm_2 layernorm_2 layernorm_after layer_norm_after",
)
_CLASSES: dict[str, frozenset[int]] = {}
for _number, _words in enumerate(_ALIASES):
    for _word in _words.split():
        _CLASSES[_word] = _CLASSES.get(_word, frozenset()) | {_number}

_FAINT = frozenset(
    {"layer", "layers", "module", "modules", "model", "block", "blocks", "net", "network"}
    | {"self", "h"}
)
"""Words that say little: how much the same name has of them is hardly evidence."""

_FAINT_WEIGHT, _NUMBER_WEIGHT = 0.2, 0.6
_ALIAS_LIKENESS, _PREFIX_LIKENESS, _SPELLING_LIKENESS = 0.95, 0.75, 0.8


def role_of(leaf: str) -> str:
    """PyTorch's word for a parameter: ``weight`` for ``kernel``; an unknown word stays.

    >>> role_of("gamma"), role_of("offset"), role_of("cls_token")
    ('weight', 'bias', 'cls_token')
    """
    return _ROLE_OF.get(leaf, leaf)


@lru_cache(maxsize=65536)
def words_of(part: str) -> tuple[str, ...]:
    """The words of one part of a path, in lower case, with numbers apart.

    >>> words_of("crossAttention_0"), words_of("LayerNorm"), words_of("q_proj")
    (('cross', 'attention', '0'), ('layernorm',), ('q',))
    """
    part = re.sub(r"(?i)^(q|k|v|o|query|key|value|out|gate|up|down)_proj(ection)?$", r"\1", part)
    if part.lower() in _CLASSES:
        return (part.lower(),)
    found: list[str] = []
    for piece in re.split(r"[^0-9A-Za-z]+", part):
        if piece.lower() in _CLASSES:
            found.append(piece.lower())
            continue
        runs = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", piece)
        found += [run.lower() for run in runs]
    return _joined(tuple(found))


def _joined(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words that make a known one together are that one: layer norm, batch norm."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] + word in _CLASSES:
            joined[-1] += word
        else:
            joined.append(word)
    return tuple(joined)


def path_words(path: Sequence[str], *, leaf: bool = False) -> tuple[str, ...]:
    """The words of a path; of a parameter's, the last part is its role."""
    if leaf and path:
        return (*(w for part in path[:-1] for w in words_of(part)), role_of(path[-1]))
    return tuple(w for part in path for w in words_of(part))


def numbers_of(path: Sequence[str]) -> tuple[int, ...]:
    """The numbers in a path, in order: ``(2, 1)`` of ``layer2.1.conv``."""
    return tuple(int(run) for part in path for run in re.findall(r"\d+", part))


def without_numbers(path: Sequence[str]) -> str:
    """A path with ``#`` in the place of its numbers: what the members of a series share."""
    return re.sub(r"\d+", "#", "/".join(path))


def _weight(word: str) -> float:
    if word.isdigit():
        return _NUMBER_WEIGHT
    return _FAINT_WEIGHT if word in _FAINT else 1.0


@lru_cache(maxsize=65536)
def _likeness(a: str, b: str) -> float:
    """How alike two words are: 1 the same, less by alias, beginning or spelling, else 0."""
    if a == b:
        return 1.0
    if a.isdigit() or b.isdigit():
        return 0.0
    if _CLASSES.get(a, frozenset()) & _CLASSES.get(b, frozenset()):
        return _ALIAS_LIKENESS
    shorter, longer = sorted((a, b), key=len)
    if len(shorter) >= 3 and longer.startswith(shorter):
        return _PREFIX_LIKENESS
    ratio = SequenceMatcher(None, a, b, autojunk=False).ratio()
    return _SPELLING_LIKENESS * ratio if ratio >= 0.8 else 0.0


@lru_cache(maxsize=65536)
def likeness(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    """How alike two names are, from 0 to 1: the share of their words that are alike.

    >>> likeness(("self_attn", "q", "weight"), ("attention", "query", "weight")) > 0.9
    True
    """
    total = sum(map(_weight, a)) + sum(map(_weight, b))
    if not total:
        return 1.0
    rest, shared = list(b), 0.0
    ranked = sorted(((_likeness(x, y), i, j) for i, x in enumerate(a) for j, y in enumerate(b)))
    used: set[tuple[str, int]] = set()
    for alike, i, j in reversed(ranked):
        if alike and ("a", i) not in used and ("b", j) not in used:
            used |= {("a", i), ("b", j)}
            shared += alike * (_weight(a[i]) + _weight(rest[j]))
    return shared / total
