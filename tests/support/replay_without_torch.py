"""Run by a test: replays a recipe where torch and every other framework cannot be imported.

Usage: replay_without_torch.py recipe.json seed. Prints the digest of all values.
"""

import hashlib
import sys
from pathlib import Path

for name in ("torch", "jax", "flax", "transformers"):
    sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError

root = Path(__file__).parents[2]
sys.path.insert(0, str(root / "src"))

from portinit import Recipe  # noqa: E402

file, seed = sys.argv[1:]
digest = hashlib.sha256()
for parameter, value in Recipe.from_json(Path(file).read_text()).replay(int(seed)).items():
    digest.update(f"{parameter} {value.dtype.name} {value.shape}".encode())
    digest.update(value.tobytes())
print(digest.hexdigest())  # noqa: T201
