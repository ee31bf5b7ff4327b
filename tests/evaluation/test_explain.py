"""Grad-CAM heat on networks whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from src.evaluation.explain import find_layer, grad_cam
from src.io import UserError
from src.models.build import Network


class OneMap(nn.Module):
    """Images (B, 3, 8, 8) to the means of two maps: red, and green minus blue."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 1, bias=False)
        self.maps.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, -1]])[:, :, None, None]

    def forward(self, images):
        return self.maps(images).mean((2, 3))


@pytest.fixture
def network():
    head = nn.Linear(2, 2, bias=False)
    head.weight.data = torch.tensor([[1.0, 0.0], [-2.0, 1.0]])
    return Network(OneMap(), head).eval()


def test_heat_is_the_maps_weighted_by_their_gradients(network):
    pytest.importorskip("captum")
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0, 1, 2] = 3.0  # red
    images[1, 1, 4, 5], images[1, 0, 7, 7] = 1.0, 1.0  # green, red
    first = grad_cam(network, "backbone.maps", images, 0)
    second = grad_cam(network, "backbone.maps", images, 1)
    # The first logit is mean(red): only red is hot. The second is mean(green) - 2 mean(red): red
    # lowers it twice as much as green raises it.
    expected = np.zeros((2, 8, 8))
    expected[0, 1, 2], expected[1, 7, 7] = 1, 1
    np.testing.assert_allclose(first, expected, atol=1e-6)
    expected[0, 1, 2], expected[1, 4, 5], expected[1, 7, 7] = -1, 0.5, -1
    np.testing.assert_allclose(second, expected, atol=1e-6)
    each = grad_cam(network, "backbone.maps", images, torch.tensor([0, 1]))
    np.testing.assert_array_equal(each, np.stack([first[0], second[1]]))


def test_the_last_map_of_at_least_7_by_7_is_used(network):
    assert find_layer(network, torch.zeros(3, 8, 8)) == ("backbone.maps", (8, 8))
    with pytest.raises(UserError, match="no feature maps of at least 7 x 7"):
        find_layer(network, torch.zeros(3, 6, 6))
