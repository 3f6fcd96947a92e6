"""A framework's answers from a process of its own: ``python -m ... ROW FILE`` writes JSON."""

import json
import sys
from pathlib import Path

from tests.support.frameworks import FRAMEWORKS
from tests.support.frameworks.questions import answers

if __name__ == "__main__":
    name, out = sys.argv[1:]
    Path(out).write_text(json.dumps(answers(FRAMEWORKS[name])), encoding="utf-8")
