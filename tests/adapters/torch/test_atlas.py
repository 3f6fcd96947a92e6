"""The atlas: real models, built, traced, replayed and compared; and its page."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tools import atlas, atlas_look, atlas_page

ROOT = Path(__file__).parents[3]
NAMES = ["BertModel", "GPT2Model", "LlamaModel", "T5Model", "ViTModel"]


@pytest.mark.parametrize("name", NAMES)
def test_real_models_are_replayed(name):
    pytest.importorskip("transformers")
    result = atlas_look.look_at(name)
    assert result["state"] == "identical", result
    assert result["counts"] == {"identical": result["tensors"]}
    assert result["tensors"] > 10


def test_how_gpt2_starts():
    pytest.importorskip("transformers")
    result = atlas_look.look_at("GPT2Model")
    starts = {(s["role"], s["initializer"]): s for s in result["starts"]}
    projections = starts["transposed_linear weight", "normal(std=0.01)"]  # 0.02 / sqrt(2 * 2)
    assert projections["names"] == ["h.*.attn.c_proj.weight", "h.*.mlp.c_proj.weight"]
    assert projections["count"] == 4
    deeper = {d["name"]: d["ratio"] for d in result["by_depth"]}
    assert set(deeper) == set(projections["names"])
    assert all(abs(ratio - 0.5**0.5) < 0.06 for ratio in deeper.values())


def in_a_process(name, seconds, gigabytes):
    """As the command does it: in a child of a process that has no threads."""
    code = (
        "from tools import atlas; import json; atlas.warm_up(); "
        f"print(json.dumps(atlas.in_a_process({name!r}, 'transformers', {seconds}, {gigabytes})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_has_a_process_of_its_own_and_its_end():
    pytest.importorskip("transformers")
    assert in_a_process("BertModel", 60, 8)["state"] == "identical"
    result = in_a_process("BertModel", 0.01, 8)
    assert result["state"] == "unbuilt"
    assert "it ended with" in result["why"]
    short_of_memory = in_a_process("BertModel", 60, 0.1)
    assert short_of_memory["state"] == "unbuilt"


def test_the_page_is_made_of_the_data():
    data = json.loads((ROOT / "docs" / "_static" / "atlas.json").read_text())
    assert (ROOT / "docs" / "atlas.md").read_text() == atlas_page.page(data)
    built = [e for e in data["architectures"].values() if e["state"] != "unbuilt"]
    assert len(built) > 800
    assert not any(entry["state"] in ("wrong", "untraced") for entry in built)
    assert sum(entry["state"] == "identical" for entry in built) >= 0.98 * len(built)


@pytest.mark.parametrize(
    ("initializer", "words"),
    {
        "normal(std=0.02)": "normal 0.02",
        "trunc_normal(std=0.02, a=-2.0, b=2.0)": "truncated normal 0.02",
        "where(index=(0,), inside=zeros(), outside=normal(std=0.02))": (
            "normal 0.02 with row 0 at 0"
        ),
        "kaiming_uniform(a=2.236)": "PyTorch's default",
        "kaiming_normal(mode='fan_out', nonlinearity='relu')": "kaiming normal by fan_out",
        "exp(((uniform(a=0, b=1) * 2) - 5))": "an expression of draws",
    }.items(),
)
def test_initializers_in_words(initializer, words):
    assert atlas_page.in_words(initializer) == words


@pytest.mark.slow
def test_a_sample_of_this_week(tmp_path):
    pytest.importorskip("transformers")
    raw = tmp_path / "sample.jsonl"
    week = dt.datetime.now(dt.UTC).strftime("%G-%V")
    command = [sys.executable, "tools/atlas.py", "--sample", "60", "--seed", week]
    subprocess.run([*command, "--raw", str(raw)], cwd=ROOT, check=True)
    results = atlas.read(raw).values()
    built = [result for result in results if result["state"] != "unbuilt"]
    assert len(results) == 60
    assert all(result["state"] in ("identical", "near", "lost") for result in built)
    assert sum(result["state"] == "identical" for result in built) >= 0.95 * len(built)
