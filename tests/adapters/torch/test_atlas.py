"""The atlas: a few real models, built, traced, replayed and compared."""

import pytest
from tools import atlas

pytest.importorskip("transformers")


NAMES = ["BertModel", "GPT2Model", "LlamaModel", "T5Model", "ViTModel"]


@pytest.mark.parametrize("name", NAMES)
def test_real_models_are_replayed(name):
    result = atlas.look_at(name)
    assert result["state"] == "identical", result
    assert result["counts"] == {"identical": result["tensors"]}
    assert result["tensors"] > 10


def test_a_model_has_a_process_of_its_own_and_its_end():
    result = atlas.in_a_process("BertModel", 0.01, 8)
    assert result == {"name": "BertModel", "state": "unbuilt", "why": "more than 0.01 seconds"}
