"""Ridge least squares from streamed moments, in float64, for layers of G convolution groups.

G groups, n rows, c inputs (columns) and O outputs of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

RIDGE = 1e-3
"""Share of the mean variance of the inputs that is added to each."""

FLOOR = 1e-12
"""The ridge is never less: dead and duplicate inputs would leave nothing to divide by."""

MOST_GAIN = 3.0
"""An output's variance is restored by no more than this factor of its deviation: beyond it a fit
explains a tenth of the variance at best, and blowing it up adds more noise than signal."""


@dataclass(eq=False)
class Sums:
    """Sums over rows of x, x x^T, x y^T, y and y^2, of inputs x and wanted outputs y."""

    rows: int = 0
    x: Any = 0.0
    xx: Any = 0.0
    xy: Any = 0.0
    y: Any = 0.0
    yy: Any = 0.0

    @staticmethod
    def second_of(x: torch.Tensor) -> torch.Tensor:
        """``[G, c, c]`` of rows ``[G, n, c]``; outputs of the same inputs share it."""
        return (x.transpose(1, 2) @ x).double()

    def add(self, x: torch.Tensor, y: torch.Tensor, second: torch.Tensor) -> None:
        """Take in rows ``[G, n, c]`` and ``[G, n, O]``, with ``second_of(x)``."""
        self.rows += x.shape[1]
        self.x = self.x + x.sum(1, dtype=torch.float64)
        self.xx = self.xx + second
        self.xy = self.xy + (x.transpose(1, 2) @ y).double()
        self.y = self.y + y.sum(1, dtype=torch.float64)
        self.yy = self.yy + y.double().square().sum(1)


def solve(
    sums: Sums,
    start: torch.Tensor,
    lost: torch.Tensor,
    *,
    centred: bool,
    ridge: float = RIDGE,
    restore: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights ``[G, O, c]`` and constants ``[G * O]`` that bring ``W x`` nearest to y.

    ``start``: what the ridge draws the weights to. ``lost`` ``[G, c]``: columns that have to be 0.
    ``centred``: with a constant; it is 0 otherwise. ``restore``: give outputs y's variance.
    """
    n = max(sums.rows, 1)
    x, y = sums.x / n, sums.y / n
    second, cross, power = sums.xx / n, sums.xy / n, sums.yy / n
    if centred:
        second = second - x[:, :, None] * x[:, None, :]
        cross = cross - x[:, :, None] * y[:, None, :]
        power = power - y.square()
    weight = start.masked_fill(lost[:, None, :], 0.0)
    missing = cross - second @ weight.transpose(1, 2)  # [G, c, O]
    weight = weight + _step(second, missing, lost, ridge).transpose(1, 2)
    if restore:
        weight = weight * _gain(weight, second, power)[:, :, None]
    constant = y - (weight @ x[:, :, None])[:, :, 0] if centred else torch.zeros_like(y)
    return weight, constant.reshape(-1)


def _step(
    second: torch.Tensor, missing: torch.Tensor, lost: torch.Tensor, ridge: float
) -> torch.Tensor:
    """``[G, c, O]``: the change of the weights; 0 where an input is lost."""
    kept = ~lost
    variance = second.diagonal(dim1=1, dim2=2).clamp(min=0)
    scale = (variance * kept).sum(1) / kept.sum(1).clamp(min=1)
    both = kept[:, :, None] & kept[:, None, :]
    matrix = second * both
    add = torch.where(kept & (scale > 0)[:, None], max(ridge, FLOOR) * scale[:, None], 1.0)
    matrix.diagonal(dim1=1, dim2=2).add_(add)
    missing = missing * kept[:, :, None]
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not bool(failed.any()):
        solved: torch.Tensor = torch.cholesky_solve(missing, factor)
        return solved * kept[:, :, None]
    shortest: torch.Tensor = torch.linalg.pinv(matrix, rtol=FLOOR, hermitian=True) @ missing
    return shortest * kept[:, :, None]


def _gain(weight: torch.Tensor, second: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """``[G, O]``: what brings each output's deviation to that of y; 1 where it has none."""
    fitted = ((weight @ second) * weight).sum(2)
    alive = (fitted > FLOOR * power.clamp(min=0)) & (power > 0)
    gain = (power / fitted.where(alive, torch.ones(()).to(fitted))).clamp(min=0).sqrt()
    return gain.clamp(max=MOST_GAIN).where(alive, torch.ones(()).to(gain))
