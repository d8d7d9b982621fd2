"""Small models, one a pattern, on which every law of psvit is tried.

``ZOO`` is all of them by name; ``PUBLISHED`` are SpikingJelly's own models, also in ``ZOO``.
"""

from __future__ import annotations

from tests.zoo import (
    attention,
    attention_kernels,
    convolutions,
    families,
    norms,
    own_neurons,
    parameters,
    published,
    python,
    temporal,
    tokens,
)
from tests.zoo.case import Case

THEMES = (
    attention,
    attention_kernels,
    convolutions,
    temporal,
    norms,
    own_neurons,
    parameters,
    tokens,
    python,
    published,
    families,
)
PUBLISHED: dict[str, Case] = published.CASES
ZOO: dict[str, Case] = {name: case for theme in THEMES for name, case in theme.CASES.items()}
