"""Train with bf16's rounding on a machine that has no bf16: does it cost accuracy?

    python -m benchmarks.rounding exp=erm exp/model=resnet18 exp.seed=0 ...

Takes the arguments of train_erm.py, of a ResNet. Autocast multiplies bf16 numbers, adds up in fp32
and rounds the result; here the same numbers are multiplied in fp32, and what autocast rounds is
rounded. A CPU without bf16 units needs hours for what this does in minutes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torchvision.models import resnet


class Round(torch.autograd.Function):
    """To the nearest bf16, and the gradient, too."""

    @staticmethod
    def forward(context, values: Tensor) -> Tensor:
        return values.bfloat16().float()

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return gradient.bfloat16().float()


def rounded(*values: Tensor) -> tuple[Tensor, ...]:
    return tuple(Round.apply(value) for value in values)


@contextmanager
def bf16_rounding() -> Iterator[None]:
    """Whatever a ResNet computes in bf16 under autocast is rounded; weights stay in fp32."""
    convolve, normalise = nn.Conv2d._conv_forward, nn.BatchNorm2d.forward
    pool = nn.AdaptiveAvgPool2d.forward

    def conv(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is None, "of a ResNet no convolution has a bias"
        return Round.apply(convolve(self, *rounded(images, weight), None))

    def linear(self, values: Tensor) -> Tensor:
        return Round.apply(nn.functional.linear(*rounded(values, self.weight, self.bias)))

    def after(forward):
        return lambda self, values: Round.apply(forward(self, values))

    blocks = (resnet.BasicBlock, resnet.Bottleneck)
    with (
        mock.patch.object(nn.Conv2d, "_conv_forward", conv),
        mock.patch.object(nn.Linear, "forward", linear),
        mock.patch.object(nn.BatchNorm2d, "forward", after(normalise)),
        mock.patch.object(nn.AdaptiveAvgPool2d, "forward", after(pool)),
        mock.patch.object(blocks[0], "forward", after(blocks[0].forward)),  # sums of two paths
        mock.patch.object(blocks[1], "forward", after(blocks[1].forward)),
    ):
        yield


if __name__ == "__main__":
    import train
    from src.config.compose import launch

    with bf16_rounding():
        launch(train.main)
