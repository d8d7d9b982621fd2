"""Rows times weight is what the layer computes, whatever its geometry."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psvit.calibrate import count_rows, patches
from psvit.calibrate.patches import CHUNK_ELEMENTS, geometry_of_layer

LAYERS = {
    "linear": (nn.Linear(6, 4), (3, 5, 6)),
    "1x1": (nn.Conv2d(6, 4, 1), (3, 6, 5, 4)),
    "1x1 strided": (nn.Conv2d(6, 4, 1, stride=2), (3, 6, 5, 4)),
    "3x3 padded": (nn.Conv2d(6, 4, 3, padding=1), (3, 6, 5, 4)),
    "strided": (nn.Conv2d(6, 4, 3, stride=2, padding=1), (3, 6, 5, 4)),
    "dilated": (nn.Conv2d(6, 4, 3, padding=2, dilation=2), (3, 6, 5, 4)),
    "uneven": (nn.Conv2d(6, 4, (3, 1), stride=(1, 2), padding=(2, 0)), (3, 6, 5, 4)),
    "same": (nn.Conv2d(6, 4, 4, padding="same"), (3, 6, 5, 4)),
    "valid": (nn.Conv2d(6, 4, 3, padding="valid"), (3, 6, 5, 4)),
    "reflect": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), (3, 6, 5, 4)),
    "grouped": (nn.Conv2d(6, 4, 3, padding=1, groups=2), (3, 6, 5, 4)),
    "depthwise": (nn.Conv2d(6, 12, 3, padding=1, groups=6), (3, 6, 5, 4)),
    "1d": (nn.Conv1d(6, 4, 3, padding=1), (3, 6, 5)),
    "3d": (nn.Conv3d(6, 4, 3, padding=1), (2, 6, 3, 4, 5)),
    "no batch": (nn.Conv2d(6, 4, 3, padding=1), (6, 5, 4)),
}


@pytest.mark.filterwarnings("ignore:Using padding")
@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_weight_is_the_output(name: str) -> None:
    module, shape = LAYERS[name]
    layer = module.double()
    x = torch.randn(shape, dtype=torch.float64)
    geometry = geometry_of_layer(layer)
    rows = torch.cat(list(patches(geometry, x)), 1)  # [G, n, c]
    weight = layer.weight.reshape(geometry.groups, -1, rows.shape[2])
    got = (rows @ weight.transpose(1, 2)).permute(1, 0, 2).flatten(1) + layer.bias
    out = layer(x)
    channels = -1 if name == "linear" else out.ndim - len(geometry.kernel) - 1
    expected = out.movedim(channels, -1).reshape(-1, got.shape[1])
    assert count_rows(geometry, x.shape) == len(got)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_chosen_rows_are_those_rows_and_chunks_are_bounded() -> None:
    geometry = geometry_of_layer(nn.Conv2d(64, 4, 3, padding=1))
    x = torch.randn(4, 64, 90, 90)
    chunks = list(patches(geometry, x, torch.arange(30_000)))
    assert len(chunks) == 2
    assert all(chunk.numel() <= CHUNK_ELEMENTS for chunk in chunks)
    whole = torch.cat(chunks, 1)
    some = torch.tensor([7, 20_000, 3])
    assert torch.equal(torch.cat(list(patches(geometry, x, some)), 1), whole[:, some])
