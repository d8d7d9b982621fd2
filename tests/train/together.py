"""One of several processes that train into the folder argv[1]; prints log and weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from psvit.train import find_devices, fit
from tests.train.small import small_data
from tests.train.test_devices import CONFIG, linear


def main() -> None:
    """Train, and print."""
    model = linear()
    lines = fit(model, small_data(), CONFIG, out=Path(sys.argv[1]), devices=find_devices("cpu"))
    weights = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    sys.stdout.write(json.dumps({"lines": lines, "weights": weights}))


if __name__ == "__main__":
    main()
