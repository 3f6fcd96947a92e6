"""A probe of the Keras twin in a process of its own: ``python -m ... FILE`` writes it as JSON.

``KERAS_BACKEND`` names the backend. The model's own values must be as they were afterwards.
"""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tests.probes.twins import INPUTS, KEY, RECIPE

import portinit


class Net(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm = keras.layers.Dense(8), keras.layers.LayerNormalization(epsilon=1e-5)
        self.fc2, self.head = keras.layers.Dense(8), keras.layers.Dense(3)
        self.tanh, self.drop = keras.layers.Activation("tanh"), keras.layers.Dropout(0.5)

    def call(self, x: Any) -> Any:
        x = self.drop(self.tanh(self.norm(self.fc1(x))))
        return self.head(self.fc2(self.fc2(x)))


def values(model: keras.Model) -> list[Any]:
    return [keras.ops.convert_to_numpy(v).copy() for v in model.variables]


def main(out: str) -> None:
    model = Net()  # the probe builds it on its inputs
    portinit.probe(model, INPUTS)
    model.fc2.trainable = False  # frozen ones are measured too
    before = values(model)
    found = portinit.probe(model, INPUTS, recipe=RECIPE, key=KEY)
    training = portinit.probe(model, {"x": INPUTS, "training": True}, recipe=RECIPE, key=KEY)
    same = all(np.array_equal(a, b) for a, b in zip(before, values(model), strict=True))
    (drop,) = (layer.output.zeros for layer in training.layers if layer.name == "drop")
    said = {"probe": found.to_data(), "same": same, "dropped": drop}
    Path(out).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
