"""What the ridge of lsq, drawn to compensated weights, does to outputs that no fit has seen.

    python -m benchmarks.ridge [--model spikformer-digits] [--data digits] [--recipe cifar10]
        [--save 0.4 0.5 0.65 0.8] [--ridge 0.1 1 10] [--images 1024] [--held-out 768]

Uniform pruning by obs, calibrated on --images training images; prints the mean KL divergence from
the unpruned model, in nats an image, on --held-out others: after obs, then after lsq by ridge.
"""

from __future__ import annotations

from benchmarks.held_out import parser_of, set_up
from psvit.allocate import allocate
from psvit.groups import removal_of
from psvit.recover import Origin, cut
from psvit.recover.lsq import lsq
from psvit.saliency import obs_scores


def main() -> None:
    parser = parser_of("ridge", images=1024, held_out=768)
    parser.add_argument("--save", type=float, nargs="+", default=[0.4, 0.5, 0.65, 0.8])
    parser.add_argument("--ridge", type=float, nargs="+", default=[0.1, 1.0, 10.0])
    options = parser.parse_args()
    found = set_up(options)
    graph, groups, dense = found.graph, found.groups, found.dense
    scores = obs_scores(dense)
    for share in options.save:
        plan = allocate(graph, groups, scores, {"memory": share}, "uniform")
        removal = removal_of(graph, plan)
        small = cut(graph, groups, removal, dense)
        said = [f"{share:.1%}  obs {found.held.judge(small)[0]:.4f}"]
        for ridge in options.ridge:
            start = dense.values(removal)
            fit = lsq(graph, groups, removal, found.images, start=start, ridge=ridge)
            Origin(graph, groups, plan).put(small, fit.tensors)
            said.append(f"lsq {ridge:g} {found.held.judge(small)[0]:.4f}")
        print(", ".join(said), flush=True)


if __name__ == "__main__":
    main()
