"""Train the network of ``fornix demo`` on scikit-learn's digits and write what the package ships.

``python -m tools.train_demo`` writes ``src/fornix/demo/digits.onnx``, the trained network as ONNX
text would spell it, and ``digits.npz``, twelve pictures with labels that training never saw. The
result is the same on every run of one machine: seeds are fixed and one thread trains.

The pictures are the "Optical Recognition of Handwritten Digits" test set (E. Alpaydin, C. Kaynak,
UCI Machine Learning Repository, 1998), as scikit-learn distributes it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

DEMO = Path(__file__).parents[1] / "src" / "fornix" / "demo"
SEED = 0
HELD_OUT = 360  # of 1,797 pictures, a fifth
SHOWN = 12
INK = 16.0  # the darkest pixel of the data set
EPOCHS = 60
BATCH = 64
LEAST_ACCURACY = 0.97

TEXT = """
<ir_version: 8, opset_import: ["" : 17], producer_name: "tools/train_demo.py">
digits (float[N, 1, 8, 8] image) => (float[N, 10] probability)
{
  stroke = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, stroke_weight, stroke_bias)
  stroke_on = Relu (stroke)
  form = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (stroke_on, form_weight, form_bias)
  form_on = Relu (form)
  coarse = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (form_on)
  part = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (coarse, part_weight, part_bias)
  part_on = Relu (part)
  features = Flatten <axis = 1> (part_on)
  score = Gemm <transB = 1> (features, digit_weight, digit_bias)
  probability = Softmax <axis = -1> (score)
}
"""


@dataclass(frozen=True)
class Digits:
    """Pictures x[N, 1, 8, 8], 0 (paper) … 1 (ink), and labels y[N]; test is never trained on."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


class Network(nn.Module):
    """x[N, 1, 8, 8] → scores[N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stroke = nn.Conv2d(1, 16, 3, padding=1)
        self.form = nn.Conv2d(16, 32, 3, padding=1)
        self.part = nn.Conv2d(32, 32, 3, padding=1)
        self.digit = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stroke(x))
        x = functional.max_pool2d(functional.relu(self.form(x)), 2)
        x = functional.relu(self.part(x)).flatten(1)
        scores: torch.Tensor = self.digit(functional.dropout(x, 0.5, self.training))
        return scores


def load() -> Digits:
    """The data set, split by a seeded permutation."""
    bunch = load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    x = (bunch.images[order] / INK).astype(np.float32)[:, None]
    y = bunch.target[order].astype(np.int64)
    return Digits(x[HELD_OUT:], y[HELD_OUT:], x[:HELD_OUT], y[:HELD_OUT])


def train(digits: Digits, epochs: int = EPOCHS) -> Network:
    """A network trained with Adam under a learning rate that falls to zero."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    network = Network()
    network.train()
    x, y = torch.from_numpy(digits.train_x), torch.from_numpy(digits.train_y)
    steps = epochs * -(-len(x) // BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = functional.cross_entropy(network(shifted(x[rows])), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    return network


def shifted(x: torch.Tensor) -> torch.Tensor:
    """``x`` moved by up to one pixel, all pictures alike."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    padded = functional.pad(x, (1, 1, 1, 1))
    return padded[:, :, 1 + down : 9 + down, 1 + right : 9 + right]


def model(network: Network) -> onnx.ModelProto:
    """``network`` as ONNX, with the softmax that turns scores into probabilities."""
    proto = onnx.parser.parse_model(TEXT)
    for name, weight in network.state_dict().items():
        array = weight.detach().numpy()
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name.replace(".", "_")))
    for node in proto.graph.node:
        node.name = node.output[0]
    proto.doc_string = "handwritten digits of 8 x 8 pixels, trained on those of scikit-learn"
    proto.graph.input[0].doc_string = "grey pictures, 0 (paper) to 1 (ink)"
    proto.graph.output[0].doc_string = "of the digits 0 to 9"
    onnx.checker.check_model(proto, full_check=True)
    return proto


def accuracy(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    """Share of ``x`` that ``network`` classifies as ``y``."""
    with torch.no_grad():
        guess = network(torch.from_numpy(x)).argmax(1).numpy()
    return float((guess == y).mean())


def shown(digits: Digits) -> np.ndarray:
    """Indices of the test pictures that ship: the first of each digit, then the next ones."""
    firsts = [int(np.flatnonzero(digits.test_y == digit)[0]) for digit in range(10)]
    others = [index for index in range(HELD_OUT) if index not in firsts]
    return np.array(sorted(firsts + others[: SHOWN - len(firsts)]))


def main() -> int:
    """Train, say how well, and write both files; 1 if the network is not good enough."""
    digits = load()
    network = train(digits)
    score = accuracy(network, digits.test_x, digits.test_y)
    print(f"{len(digits.train_y)} pictures trained on, {score:.2%} of {HELD_OUT} others right")
    if score < LEAST_ACCURACY:
        print(f"at least {LEAST_ACCURACY:.0%} are required")
        return 1
    rows = shown(digits)
    DEMO.mkdir(exist_ok=True)
    (DEMO / "digits.onnx").write_bytes(model(network).SerializeToString(deterministic=True))
    np.savez_compressed(DEMO / "digits.npz", image=digits.test_x[rows], label=digits.test_y[rows])
    for file in sorted(DEMO.iterdir()):
        print(f"{file.name}: {file.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
