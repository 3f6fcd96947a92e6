"""Several runs, killed runs and odd names: files are whole or not there, and nothing else stays."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors
from click.testing import CliRunner

import portinit
from portinit import Recipe, Rule, checkpoints
from portinit.checkpoints import CheckpointError, files, write
from portinit.checkpoints.files import SCRATCH, atomic, claimed, exclusive, sweep
from portinit.checkpoints.write import parse_size
from portinit.cli.commands import portinit as command

KEY = portinit.key(0)
FORMATS = ("safetensors", "orbax")


def of(*names: str) -> Recipe:
    return Recipe([Rule(name, portinit.ones, shape=(2,)) for name in names])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Runs side by side

RUN = """
import sys
import portinit
from portinit import Recipe, Rule, checkpoints

recipe = Recipe([Rule(f"w{i}", portinit.normal(), shape=(8, 8)) for i in range(6)])
print("ready", flush=True)
for folder in sys.stdin:
    checkpoints.write(recipe, portinit.key(0), folder.strip(), shard_size=300)
    print("done", flush=True)
"""


def test_processes_that_finish_at_the_same_time_do_not_disturb_one_another(tmp_path):
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    runs = [subprocess.Popen([sys.executable, "-c", RUN], text=True, **pipe) for _ in range(4)]
    rounds = 25
    try:
        for run in runs:
            assert run.stdout.readline() == "ready\n"
        for number in range(rounds):  # all begin each round together, and meet at its end
            for run in runs:
                run.stdin.write(f"{tmp_path / str(number)}\n")
                run.stdin.flush()
            for run in runs:
                assert run.stdout.readline() == "done\n", run.communicate(timeout=60)[1]
        for run in runs:
            _, errors = run.communicate(timeout=60)
            assert (run.returncode, errors) == (0, "")
    finally:
        for run in runs:
            run.kill()
    first = contents(tmp_path / "0")
    assert len(first) == 7
    for number in range(rounds):
        assert contents(tmp_path / str(number)) == first
        assert not (tmp_path / str(number) / SCRATCH).exists()


def test_a_scratch_folder_that_goes_while_a_claim_is_made_is_made_again(tmp_path, monkeypatch):
    real, times = files.locked, []

    def locked(file, wait=False):  # another run finishes between the opening and the lock
        if len(times) < 3:
            shutil.rmtree(tmp_path / SCRATCH)
        times.append(wait)
        return real(file, wait)

    monkeypatch.setattr(files, "locked", locked)
    with claimed(tmp_path, "a", wait=True) as work:
        assert work is not None
        assert work.is_dir()
        with claimed(tmp_path, "a", wait=False) as second:
            assert second is None
    assert not [*tmp_path.iterdir()]


def test_whoever_waited_for_a_file_that_is_gone_holds_the_new_one(tmp_path):
    path, order = tmp_path / "scratch" / "lock", []
    inside = threading.Event()

    def second() -> None:
        inside.set()
        with exclusive(path, wait=True) as held:
            order.append("second")
            assert held
            with exclusive(path, wait=False) as third:
                assert not third

    with exclusive(path, wait=True) as held:
        assert held
        runner = threading.Thread(target=second)
        runner.start()
        inside.wait(30)
        order.append("first")
    runner.join(30)
    assert order == ["first", "second"]
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_goes_as_it_is_made_is_made_again(tmp_path, monkeypatch):
    path, real, times = tmp_path / "scratch" / "lock", os.mkdir, []

    def mkdir(*arguments):  # another process has the folder now, and removes it at once
        times.append(arguments)
        if len(times) < 4:
            raise FileExistsError(errno.EEXIST, "File exists", str(path.parent))
        real(*arguments)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with exclusive(path, wait=True) as held:
        assert held
        assert path.exists()
    assert len(times) == 4


# Killed runs

KILLED = """
import os, signal, sys
from pathlib import Path
from portinit.checkpoints.files import atomic
with atomic(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_beside_a_file_goes_with_the_next_one(tmp_path):
    for name in ("recipe.json", "other.json"):
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
        assert done.returncode < 0
    assert [path.name for path in tmp_path.iterdir()] == [SCRATCH]
    with atomic(tmp_path / "recipe.json") as temporary:
        temporary.write_bytes(b"whole")
    assert contents(tmp_path) == {"recipe.json": b"whole"}
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_what_a_living_run_writes_is_not_swept(tmp_path):
    with claimed(tmp_path, "a", wait=True) as work:
        (work / "file").write_bytes(b"half")
        (tmp_path / SCRATCH / "b").mkdir()  # a killed run's, its lock gone
        sweep(tmp_path)
        assert (work / "file").read_bytes() == b"half"
        assert not (tmp_path / SCRATCH / "b").exists()
    assert not [*tmp_path.iterdir()]


def test_an_error_leaves_nothing(tmp_path):
    def fail() -> None:
        with atomic(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not [*tmp_path.iterdir()]


# Odd arguments and names


@pytest.mark.parametrize("directory", ["", "  "])
def test_an_empty_path_is_no_folder(directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="got an empty one"):
        write(of("w"), KEY, directory)
    Path("recipe.json").write_text(of("w").to_json())
    done = CliRunner().invoke(command, ["init", "recipe.json", "--out", directory])
    assert done.exit_code == 1
    assert "got an empty one" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]
    write(of("w"), KEY, ".")
    assert (tmp_path / "model.safetensors").exists()


NO_SIZES = ["9" * 400, "1" * 31 + "TB", "10000000TB", "1.5.2", "0x10", "٣", "1e9", 2**63, "_1"]


@pytest.mark.parametrize("size", NO_SIZES)
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match="a size must be"):
        parse_size(size)


def test_sizes_are_exact():
    assert parse_size("9007199254740993") == 2**53 + 1
    assert parse_size("1.1TB") == 1_100_000_000_000
    assert parse_size("0.3GiB") == 3 * 2**30 // 10


def test_a_name_that_the_format_keeps_is_refused(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="keeps the name __metadata__"):
        write(of("w", "__metadata__"), KEY, out)
    for file_format in FORMATS:
        with pytest.raises(CheckpointError, match="must be Unicode text"):
            write(of("w", "\ud800"), KEY, out, file_format=file_format)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.b", "a"), "a tensor at a and another within it, a.b"),
        (("a", "a.b"), "a tensor at a and another within it, a.b"),
        (("a.b.c.d", "x", "a.b"), "a tensor at a.b and another within it, a.b.c.d"),
    ],
)
def test_tensors_within_one_another_are_no_tree(names, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        write(of(*names), KEY, tmp_path / "out", file_format="orbax")
    assert not [*tmp_path.iterdir()]
    write(of(*names), KEY, tmp_path / "out")
    with safetensors.safe_open(tmp_path / "out" / "model.safetensors", "numpy") as file:
        assert set(file.keys()) == set(names)


def test_paths_that_orbax_takes_for_one_are_refused(tmp_path):
    one, other = checkpoints.checkpoint_tensors(of("a.b", "c"))
    twins = [one, type(other)("c", other.dtype, other.parts, path=("a.b",))]
    with pytest.raises(CheckpointError, match="Orbax has one place for the tensors"):
        write(twins, KEY, tmp_path / "out", file_format="orbax")


def test_paths_and_texts_that_cannot_be_written_are_said_before_any_file(tmp_path, monkeypatch):
    out = tmp_path / "out"
    for metadata in ({"epoch": 3}, {3: "epoch"}, {"a": None}):
        with pytest.raises(TypeError, match="metadata must be of texts by texts"):
            write(of("w"), KEY, out, metadata=metadata)
    with pytest.raises(CheckpointError, match="must be Unicode text"):
        write(of("w"), KEY, out, metadata={"a": "\ud800"})
    for directory in ("a\0b", tmp_path / ("x" * 300), tmp_path / "\ud800"):
        for file_format in FORMATS:
            with pytest.raises(CheckpointError):
                write(of("w"), KEY, directory, file_format=file_format)
    assert not [*tmp_path.iterdir()]

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(CheckpointError, match=r"could not be written: .*Permission denied"):
        write(of("w"), KEY, out)


ODD = [
    "",
    ".",
    "a..b",
    "a/b",
    "../x",
    "x" * 300,
    "ä é",
    "a%b",
    "a\x00b",
    "a\nb",
    "CON",
    "_METADATA",
]


def test_odd_names_are_kept(tmp_path):
    write(of(*ODD), KEY, tmp_path / "out")
    with safetensors.safe_open(tmp_path / "out" / "model.safetensors", "numpy") as file:
        read = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert set(read) == set(ODD)
    assert all(np.array_equal(value, [1, 1]) for value in read.values())


def test_former_names_are_there():
    import portinit_flax
    import portinit_torch

    assert checkpoints.Entry is checkpoints.TensorSpec
    assert checkpoints.entries is checkpoints.checkpoint_tensors
    assert portinit_torch.entries is portinit_torch.checkpoint_tensors
    assert portinit_flax.entries is portinit_flax.checkpoint_tensors
