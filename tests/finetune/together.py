"""One of several processes that fine-tune as one; prints its weights and what it says of them."""

from __future__ import annotations

import json
import sys

from psvit.finetune import finetune
from tests.finetune.tiny import TUNING, data, dense_model, pruned


def main() -> None:
    """Fine-tune, and print."""
    dense = dense_model()
    tuned = finetune(pruned(dense), dense, data(), TUNING, lr=1e-3)
    told = {
        "weights": {name: tensor.tolist() for name, tensor in tuned.model.state_dict().items()},
        "matched": None if tuned.matched is None else vars(tuned.matched),
        "norms": tuned.norms,
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
