"""What matched batch-norm statistics do to outputs on images that nothing was fitted on.

    python -m benchmarks.matching [--model spikformer-digits] [--data digits] [--recipe cifar10]
        [--save 0.4] [--images 768] [--held-out 1280]
    python -m benchmarks.matching --plans [--save 0.65] ...

Prints the mean KL divergence from the unpruned model, in nats an image, and the share of labels
that are right, on --held-out training images: uniform pruning by obs, then with statistics taken
again (bn) and with matched ones. With --plans: method optimal and recovery auto, plans measured
with and without matched statistics.
"""

from __future__ import annotations

from torch import nn

from benchmarks.held_out import Setting, parser_of, set_up
from psvit.allocate import allocate
from psvit.capture.copying import private_copy
from psvit.guidance import Guide, find_guidance
from psvit.recover import Origin, recover
from psvit.recover.bn import reestimate
from psvit.recover.matching import match_norms, watch_norms
from psvit.rewrite import rewrite
from psvit.saliency import obs_scores

ANALYSIS = 256


def main() -> None:
    parser = parser_of("matching", images=768, held_out=1280)
    parser.add_argument("--save", type=float, default=0.4)
    parser.add_argument("--plans", action="store_true")
    options = parser.parse_args()
    found = set_up(options)
    _say(found, "unpruned", found.model)
    (_plans if options.plans else _statistics)(found, options.save)


def _say(found: Setting, name: str, model: nn.Module) -> None:
    kl, right = found.held.judge(model)
    print(f"{name:24} KL {kl:.4f}  right {right:.1%}", flush=True)


def _statistics(found: Setting, share: float) -> None:
    graph, groups, images = found.graph, found.groups, found.images
    plan = allocate(graph, groups, obs_scores(found.dense), {"memory": share}, "uniform")
    origin = Origin(graph, groups, plan, found.dense)
    small = recover(rewrite(graph, plan), images, "obs", origin)
    _say(found, "obs", small)
    fresh = private_copy(small)
    reestimate(fresh, images)
    _say(found, "obs, bn", fresh)
    match_norms(small, images, watch_norms(private_copy(found.model), images), origin.cut)
    _say(found, "obs, matched", small)


def _plans(found: Setting, share: float) -> None:
    graph, groups = found.graph, found.groups
    ranking, curves = obs_scores(found.dense), None
    for matched in (True, False):
        guide = Guide(found.train, curves, n=ANALYSIS, dense=found.dense, matched=matched)
        guidance = find_guidance(
            guide,
            found.model,
            graph,
            groups,
            ranking,
            method="optimal",
            units=("memory",),
            bounded=False,
            say=lambda text: None,
        )
        curves = guidance.curves
        plan = allocate(graph, groups, ranking, {"memory": share}, "optimal", **vars(guidance))
        small = recover(rewrite(graph, plan), found.images, "auto", Origin(graph, groups, plan))
        _say(found, f"plan {'with' if matched else 'without'} matching", small)


if __name__ == "__main__":
    main()
