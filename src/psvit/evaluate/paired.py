"""How much accuracy one model loses against another, judged on the same images.

Of n images, b are classified correctly by the first model alone and c by the second alone. The
drop is (b - c) / n. That the images are the same takes out what is hard or easy about them, so an
interval of the difference is far narrower than those of the two accuracies suggest.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from psvit.evaluate.wilson import Z_95

Z_95_ONE_SIDED = 1.6448536269514722
"""The 95 % point of the normal distribution."""

PRECISION = 1e-9


def pack(right: torch.Tensor) -> str:
    """Which images are right, bool ``[n]``, a bit each, as hexadecimal text."""
    return np.packbits(right.cpu().numpy()).tobytes().hex()


def unpack(text: str, n: int) -> torch.Tensor:
    """What ``pack`` was given, bool ``[n]``."""
    bits = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(bits, count=n).astype(bool))


def paired_drop(dense: torch.Tensor, pruned: torch.Tensor) -> tuple[float, float, float]:
    """Accuracy lost, from which of the same n images each model gets right, and its interval.

    ``dense``, ``pruned``: bool ``[n]``. The 95 % interval is Wald's after half an image is added
    to each of the four cells of the paired table (Agresti and Min, 2005), so it has a width even
    where the models never differ.
    """
    n, b, c = _table(dense, pruned)
    drop = (b - c) / n
    centre = (b - c) / (n + 2)
    variance = (b + c + 1) / (n + 2) - centre**2
    half = Z_95 * math.sqrt(variance / (n + 2))
    return drop, max(-1.0, min(drop, centre - half)), min(1.0, max(drop, centre + half))


def drop_limit(dense: torch.Tensor, pruned: torch.Tensor, z: float = Z_95_ONE_SIDED) -> float:
    """What the drop is at most, with 95 % confidence (one-sided); bool ``[n]`` as above.

    The score limit of Tango (Statistics in Medicine 17, 1998, equation 8): the largest drop d that
    a test of "the drop is d" does not reject. Unlike Wald's it stays honest where the models
    hardly differ: with no difference seen on n images it is z^2 / (n + z^2), about 2.7 / n.
    """
    n, b, c = _table(dense, pruned)
    low, high = (b - c) / n, 1.0
    if _score(n, b, c, high) >= -z:
        return high
    while high - low > PRECISION:
        middle = (low + high) / 2
        if _score(n, b, c, middle) >= -z:
            low = middle
        else:
            high = middle
    return high


def _score(n: int, b: int, c: int, d: float) -> float:
    """Tango's statistic: how many deviations the drop seen lies above ``d``."""
    # q: the most likely share of images that the second model alone gets right, if the drop is d
    linear = -b - c + (2 * n - b + c) * d
    q = (math.sqrt(linear**2 + 8 * n * c * d * (1 - d)) - linear) / (4 * n)
    variance = n * (2 * q + d * (1 - d))
    above = b - c - n * d
    return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above)


def _table(dense: torch.Tensor, pruned: torch.Tensor) -> tuple[int, int, int]:
    return len(dense), int((dense & ~pruned).sum()), int((~dense & pruned).sum())
