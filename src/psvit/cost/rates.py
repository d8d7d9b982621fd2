"""What a model was seen to fire: rates and operations of every layer, averaged over images.

JSON-serialisable records; ``psvit.cost.observe`` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from psvit.errors import DataError

RATES_VERSION = 1


@dataclass(frozen=True)
class LayerRate:
    """One operation that costs MACs: a layer, or a product of two activations.

    ``rates``: share of non-zero values of each activation that enters, ``spikes``: which of them
    are spikes. ``macs_dense``: MACs of one image over all T steps as if dense. ``sops``:
    accumulates of one image that spikes trigger, 0 for a real-valued operation.
    """

    kind: str
    rates: tuple[float, ...]
    spikes: tuple[bool, ...]
    macs_dense: float
    sops: float

    @property
    def spike_driven(self) -> bool:
        """Whether it accumulates at spikes instead of multiplying real values."""
        return any(self.spikes)

    @property
    def macs(self) -> float:
        """Multiply-accumulates that are really needed: 0 if it is spike-driven."""
        return 0.0 if self.spike_driven else self.macs_dense


@dataclass(frozen=True)
class Rates:
    """Firing of a model on ``n`` images, which were drawn with ``seed``.

    ``layers``: by name, in the order they run. ``neurons``: share of non-zero outputs of every
    neuron. ``estimated``: layers whose SOPs after a removal are scaled by their MACs, because
    their channels cannot be told apart in what was counted. ``uncounted``: operations that
    multiply, but that no rule counts, in words.
    """

    n: int
    seed: int
    layers: Mapping[str, LayerRate]
    neurons: Mapping[str, float]
    estimated: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        object.__setattr__(self, "neurons", MappingProxyType(dict(self.neurons)))

    @property
    def sops(self) -> float:
        """Accumulates of one image that spikes trigger."""
        return sum(layer.sops for layer in self.layers.values())

    @property
    def macs(self) -> float:
        """Multiply-accumulates of one image in real-valued operations."""
        return sum(layer.macs for layer in self.layers.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold; ``Rates.from_dict`` reads it back equal."""
        return {
            "psvit_rates": RATES_VERSION,
            "n": self.n,
            "seed": self.seed,
            "layers": {name: asdict(layer) for name, layer in self.layers.items()},
            "neurons": dict(self.neurons),
            "estimated": list(self.estimated),
            "uncounted": list(self.uncounted),
        }

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=1)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Rates:
        """Read rates. Raises DataError for data that are no rates of a version known here."""
        try:
            if data["psvit_rates"] != RATES_VERSION:
                raise DataError(
                    f"firing rates have version {data['psvit_rates']!r}, this psvit reads version "
                    f"{RATES_VERSION}: install the psvit that wrote them, or measure again"
                )
            return Rates(
                n=int(data["n"]),
                seed=int(data["seed"]),
                layers={
                    str(name): LayerRate(
                        kind=str(one["kind"]),
                        rates=tuple(float(rate) for rate in one["rates"]),
                        spikes=tuple(bool(spiking) for spiking in one["spikes"]),
                        macs_dense=float(one["macs_dense"]),
                        sops=float(one["sops"]),
                    )
                    for name, one in data["layers"].items()
                },
                neurons={str(name): float(rate) for name, rate in data["neurons"].items()},
                estimated=tuple(str(name) for name in data["estimated"]),
                uncounted=tuple(str(name) for name in data["uncounted"]),
            )
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"these are no firing rates ({type(error).__name__}: {error}): expected what "
                "psvit wrote, unedited"
            ) from error
