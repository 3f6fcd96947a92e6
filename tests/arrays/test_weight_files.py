"""Weight files: what is read, what is refused, and that neither runs nor inflates anything."""

import argparse
import collections
import datetime as dt
import io
import os
import pathlib
import subprocess
import sys
import tracemalloc
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import portinit
import portinit_torch
from portinit.arrays.weight_files import read_tensor, stored_tensor, stored_tensors, verify_tensor

KEY = portinit.key(0)
EYE = np.eye(4, dtype=np.float32)


def member(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive(file: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return str(file)


# Numbers of every kind

DTYPES = ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_npz_of_either_byte_order_is_read(dtype, order, tmp_path):
    given = np.arange(6).reshape(2, 3).astype(f"{order}{dtype}")
    np.savez(tmp_path / "w.npz", a=given, b=np.asfortranarray(given))
    for name in "ab":
        values = read_tensor(str(tmp_path / "w.npz"), name)
        np.testing.assert_array_equal(values, given)
        assert values.dtype.isnative
        header = stored_tensor(str(tmp_path / "w.npz"), name)
        assert (header.shape, header.dtype) == ((2, 3), np.dtype(dtype).name)


def test_a_big_endian_file_fills_a_model(tmp_path):
    np.savez(tmp_path / "w.npz", weight=EYE.astype(">f4") * 3)
    recipe = portinit.pretrained(tmp_path / "w.npz")
    layer = portinit_torch.initialize(torch.nn.Linear(4, 4, bias=False), recipe, KEY)
    np.testing.assert_array_equal(layer.weight.detach(), EYE * 3)


def test_bfloat16_of_safetensors_is_read_by_numpy_alone(tmp_path):
    values = torch.tensor([1.0, -3.140625], dtype=torch.bfloat16)
    safetensors.torch.save_file({"a": values}, tmp_path / "w.safetensors")
    code = (
        "import sys, portinit; "
        f"w = portinit.from_file({str(tmp_path / 'w.safetensors')!r}, 'a'); "
        "print(w(portinit.key(0), (2,)).tolist(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[1.0, -3.140625] False\n"


# Damage and malice: a ValueError that names the file


def test_every_flipped_byte_is_refused_or_without_effect(tmp_path):
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    given = np.arange(16, dtype="f4").reshape(4, 4)
    np.savez_compressed(good, weight=given)
    raw = good.read_bytes()
    recipe = portinit.Recipe([("weight", portinit.from_file(bad, "weight"))])
    refused = 0
    for i in range(len(raw)):
        bad.write_bytes(raw[:i] + bytes([raw[i] ^ 0x55]) + raw[i + 1 :])
        layer = torch.nn.Linear(4, 4, bias=False).requires_grad_(requires_grad=False)
        layer.weight.fill_(7)
        try:
            portinit_torch.initialize(layer, recipe, KEY)
        except (ValueError, OSError):
            refused += 1
            assert (layer.weight == 7).all()
        else:
            np.testing.assert_array_equal(layer.weight, given)
    assert refused > len(raw) // 3


DAMAGED: dict[str, Any] = {
    "cut": lambda whole: whole[:-8],
    "longer": lambda whole: whole + bytes(8),
    "no header": lambda whole: whole[80:],
    "version 9": lambda whole: whole[:6] + b"\x09" + whole[7:],
    "deep header": lambda whole: whole[:8] + b"\x28\x23" + b"-" * 9000,
    "negative": lambda whole: whole.replace(b"(4, 4)", b"(-4,4)"),
    "larger": lambda whole: whole.replace(b"(4, 4)", b"(4, 5)"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_an_array_that_its_header_does_not_fit_is_refused(damage, tmp_path):
    file = archive(tmp_path / "w.npz", {"weight.npy": damage(member(EYE))})
    with pytest.raises(ValueError, match=r"w\.npz: weight is damaged"):
        stored_tensors(file)


def test_archives_that_cannot_be_trusted_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as made:
        made.writestr("a.npy", member(EYE))
        with pytest.warns(UserWarning, match="Duplicate name"):
            made.writestr("a.npy", member(EYE + 1))
    with pytest.raises(ValueError, match=r"must hold each name once, got a\.npy twice"):
        stored_tensors(str(tmp_path / "w.npz"))
    np.savez(tmp_path / "l.npz", a=np.ones(2, np.longdouble))
    with pytest.raises(ValueError, match="a must be an array of numbers, got dtype"):
        stored_tensors(str(tmp_path / "l.npz"))
    raw = bytearray((tmp_path / "l.npz").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # encrypted
    (tmp_path / "e.npz").write_bytes(raw)
    with pytest.raises(ValueError, match="must not be encrypted"):
        stored_tensors(str(tmp_path / "e.npz"))


@pytest.mark.parametrize("suffix", ["npz", "pt"])
def test_a_bomb_is_refused_before_it_is_inflated(suffix, tmp_path):
    zeros = np.zeros((1 << 13, 1 << 13), np.float32)  # 256 MiB of them are 256 KiB
    if suffix == "npz":
        file = str(tmp_path / "w.npz")
        np.savez_compressed(file, weight=zeros)
    else:
        torch.save({"weight": torch.from_numpy(zeros)}, tmp_path / "large.pt")
        with zipfile.ZipFile(tmp_path / "large.pt") as whole:
            members = {name: whole.read(name) for name in whole.namelist()}
        file = archive(tmp_path / "w.pt", members, zipfile.ZIP_DEFLATED)
    assert os.path.getsize(file) < 1 << 20
    tracemalloc.start()
    try:
        for ask in (
            lambda: portinit.pretrained(file),
            lambda: portinit.from_file(file, "weight")(KEY, zeros.shape),
        ):
            with pytest.raises(ValueError, match=r"would be inflated to 268,\d+,\d+ bytes"):
                ask()
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_members_that_overlap_are_not_inflated_one_by_one(tmp_path):
    file = tmp_path / "w.npz"
    np.savez_compressed(file, a=np.zeros(1 << 22, np.float32))  # 16 MiB: few enough alone
    raw = bytearray(file.read_bytes())
    start, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entry = raw[start:end]
    name = entry.index(b"a.npy")
    entries = bytearray()
    for i in range(20):  # twenty entries of one member
        entry[name : name + 1] = bytes([ord("a") + i])
        entries += entry
    tail = bytearray(raw[end:])
    tail[8:12] = (20).to_bytes(2, "little") * 2
    tail[12:16] = len(entries).to_bytes(4, "little")
    file.write_bytes(raw[:start] + entries + tail)
    with pytest.raises(ValueError, match=r"would be inflated|is damaged"):
        stored_tensors(str(file))


def test_compressed_weights_are_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(64, 64)).astype("f4")
    np.savez_compressed(tmp_path / "w.npz", weight=values)
    np.testing.assert_array_equal(read_tensor(str(tmp_path / "w.npz"), "weight"), values)
    torch.save({"weight": torch.from_numpy(values)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    packed = archive(tmp_path / "w.pt", members, zipfile.ZIP_DEFLATED)  # cannot be mapped
    np.testing.assert_array_equal(read_tensor(packed, "weight"), values)


# What else torch.save's files hold

BESIDE: dict[str, Any] = {
    "NumPy scalars": [np.float64(0.5), np.int64(3), np.bool_(1), np.float32(1)],
    "NumPy arrays": {"mean": np.ones(3), "names": np.array(["a"], dtype=object)},
    "NumPy dtype": np.dtype("f4"),
    "Namespace": argparse.Namespace(lr=0.1, inner=argparse.Namespace(a=[1, 2])),
    "SimpleNamespace": types.SimpleNamespace(lr=np.float32(0.1)),
    "paths": [pathlib.Path("a/b"), pathlib.PurePosixPath("c")],
    "times": [dt.datetime(2020, 1, 1), dt.timedelta(3), dt.date(2020, 1, 2)],
    "defaultdict": collections.defaultdict(list, {"loss": [1.0, 2.0]}),
    "counters": [collections.Counter("ab"), collections.OrderedDict(a=1)],
    "torch": [torch.__version__, torch.float16, torch.Size([2]), torch.device("cpu")],
    "builtins": [{1, 2}, 1j, slice(1, 2), range(3), frozenset({1}), b"bytes", bytearray(b"b")],
    "random states": [np.random.RandomState(0).get_state(), torch.get_rng_state()],
}


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_harmless_objects_beside_the_weights_are_passed_over(beside, new_format, tmp_path):
    held = {"model": {"weight": torch.eye(4)}, "beside": beside}
    torch.save(held, tmp_path / "w.pt", _use_new_zipfile_serialization=new_format)
    recipe = portinit.pretrained(tmp_path / "w.pt", section="model")
    layer = portinit_torch.initialize(torch.nn.Linear(4, 4, bias=False), recipe, KEY)
    np.testing.assert_array_equal(layer.weight.detach(), EYE)


def test_torch_s_own_list_is_left_as_it_was(tmp_path):
    torch.save({"weight": torch.eye(4), "args": argparse.Namespace(a=1)}, tmp_path / "w.pt")
    before = {*torch.serialization.get_safe_globals()}
    assert [*stored_tensors(str(tmp_path / "w.pt"))] == ["weight"]
    assert {*torch.serialization.get_safe_globals()} == before
    with pytest.raises(Exception, match="Namespace"):
        torch.load(tmp_path / "w.pt", weights_only=True)


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_what_a_stand_in_holds_is_not_executed_either(tmp_path):
    trap = Hostile(tmp_path / "owned")
    for number, beside in enumerate(
        (
            argparse.Namespace(a=trap),
            np.array([trap], dtype=object),
            collections.defaultdict(os.getcwd),
            types.SimpleNamespace(f=os.system),
            torch.nn.Linear(2, 2),
        )
    ):
        torch.save({"weight": torch.eye(4), "beside": beside}, tmp_path / f"{number}.pt")
        with pytest.raises(ValueError, match=r"nothing to execute: .* refuses [\w.]+\. If you"):
            portinit.pretrained(tmp_path / f"{number}.pt")
    assert not (tmp_path / "owned").exists()


def test_arrays_in_a_state_dict_are_not_passed_over(tmp_path):
    torch.save({"weight": torch.eye(4), "bias": np.ones(4)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="must hold tensors, got NumPy arrays: bias"):
        portinit.pretrained(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of jit's age
def test_scripted_models_are_refused_and_their_state_dicts_are_read(tmp_path):
    layer = torch.nn.Linear(4, 4)
    scripted = torch.jit.script(layer)
    torch.jit.save(scripted, tmp_path / "code.pt")
    with pytest.raises(ValueError, match=r"torch\.jit\.save, which is code.*state_dict"):
        portinit.pretrained(tmp_path / "code.pt")
    torch.save(torch.jit.load(tmp_path / "code.pt").state_dict(), tmp_path / "w.pt")
    filled = portinit_torch.initialize(
        torch.nn.Linear(4, 4), portinit.pretrained(tmp_path / "w.pt"), KEY
    )
    assert torch.equal(filled.weight, layer.weight)


# Everything is known before anything is written

UNFIT: dict[str, Any] = {
    "sparse": lambda: torch.eye(4).to_sparse(),
    "csr": lambda: torch.eye(4).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8),
    "complex32": lambda: torch.eye(4).to(torch.complex32),
    "complex": lambda: torch.eye(4) * 1j,
    "too large": lambda: torch.full((4, 4), 1e300, dtype=torch.float64),
    "meta": lambda: torch.empty(4, 4, device="meta"),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("make", UNFIT.values(), ids=UNFIT)
@pytest.mark.filterwarnings("ignore")  # of what PyTorch calls beta, prototype or deprecated
def test_a_model_is_filled_whole_or_not_at_all(make, device, tmp_path):
    torch.save({"1.weight": make()}, tmp_path / "w.pt")
    recipe = portinit.pretrained(tmp_path / "w.pt") + portinit.recipes.torch_defaults()
    layers = (torch.nn.Linear(4, 4, bias=False, device=device) for _ in range(2))
    model = torch.nn.Sequential(*layers).requires_grad_(requires_grad=False)
    for parameter in model.parameters():
        parameter.fill_(7)
    with pytest.raises(portinit.RecipeError, match=r"1\.weight .*w\.pt: 1\.weight"):
        portinit_torch.initialize(model, recipe, KEY, device="cpu")
    assert {parameter.device.type for parameter in model.parameters()} == {device}
    if device == "cpu":
        assert all((parameter == 7).all() for parameter in model.parameters())


def test_a_file_that_changes_is_verified_again(tmp_path):
    file = tmp_path / "w.npz"
    np.savez(file, weight=EYE)
    recipe = portinit.pretrained(file)
    layer = torch.nn.Linear(4, 4, bias=False)
    portinit_torch.initialize(layer, recipe, KEY)
    np.savez(file, weight=EYE.astype("f8") * 1e300)
    with pytest.raises(portinit.RecipeError, match="4 numbers that are too large for float32"):
        portinit_torch.initialize(layer, recipe, KEY)
    np.testing.assert_array_equal(layer.weight.detach(), EYE)


def test_verifying_reads_nothing_that_reading_would_refuse(tmp_path):
    safetensors.torch.save_file(
        {"a": torch.ones(2), "b": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors"
    )
    file = str(tmp_path / "w.safetensors")
    verify_tensor(file, "a")
    for ask in (verify_tensor, read_tensor):
        with pytest.raises(ValueError, match=r"b must be of one of the dtypes .* got F8_E4M3"):
            ask(file, "b")
