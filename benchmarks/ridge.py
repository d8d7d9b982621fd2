"""What the ridge of lsq, drawn to compensated weights, does to outputs that no fit has seen.

    python -m benchmarks.ridge [--model spikformer-digits] [--data digits] [--recipe cifar10]
        [--save 0.4 0.5 0.65 0.8] [--ridge 0.1 1 10] [--images 1024] [--held-out 768]

Uniform pruning by obs, calibrated on --images training images; prints the mean KL divergence from
the unpruned model, in nats an image, on --held-out others: after obs, then after lsq by ridge.
"""

from __future__ import annotations

import argparse

import torch

import psvit
from psvit.allocate import allocate
from psvit.calibrate import calibrate
from psvit.data import RECIPES, open_data
from psvit.groups import removal_of
from psvit.models.load import load_model
from psvit.outputs import kl_per_image, predict
from psvit.recover import Origin, cut
from psvit.recover.lsq import lsq
from psvit.saliency import obs_scores

BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.ridge")
    parser.add_argument("--model", default="spikformer-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--recipe")
    parser.add_argument("--save", type=float, nargs="+", default=[0.4, 0.5, 0.65, 0.8])
    parser.add_argument("--ridge", type=float, nargs="+", default=[0.1, 1.0, 10.0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--held-out", type=int, default=768)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(options.model).model.eval()
    found = open_data(
        options.data,
        split="train",
        recipe=RECIPES[options.recipe] if options.recipe else None,
        batch_size=BATCH,
        limit=options.images + options.held_out,
        shuffle=True,
        only=options.data != "digits",
    )
    batches = [images for images, _ in found]
    fitted, unseen = batches[: options.images // BATCH], batches[options.images // BATCH :]
    pairs = [(images,) for images in unseen]
    graph = psvit.capture(model, fitted[0][:2])
    groups = psvit.find_groups(graph)
    dense = calibrate(graph, groups, fitted)
    scores, teacher = obs_scores(dense), predict(model, pairs)
    for share in options.save:
        plan = allocate(graph, groups, scores, {"memory": share}, "uniform")
        removal = removal_of(graph, plan)
        small = cut(graph, groups, removal, dense)
        said = [
            f"{share:.1%}  obs {float(kl_per_image(teacher, predict(small, pairs)).mean()):.4f}"
        ]
        for ridge in options.ridge:
            start = dense.values(removal)
            fit = lsq(graph, groups, removal, fitted, start=start, ridge=ridge)
            Origin(graph, groups, plan).put(small, fit.tensors)
            kl = float(kl_per_image(teacher, predict(small, pairs)).mean())
            said.append(f"lsq {ridge:g} {kl:.4f}")
        print(", ".join(said), flush=True)


if __name__ == "__main__":
    main()
