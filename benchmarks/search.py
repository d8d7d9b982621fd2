"""What the search of method optimal gains, on images that nothing was fitted or chosen on.

    python -m benchmarks.search [--model spikformer-digits] [--data digits] [--recipe cifar10]
        [--save 0.5] [--images 1024] [--held-out 413]

Prints for the plan of each method, by its curves alone, and for that of the search the mean KL
divergence from the unpruned model, in nats an image, and the share of labels that are right, on
--held-out training images, after obs and with matched statistics; and for the search how many
seconds it took. Analysis: 256 of the images; judging: up to 1,024 others.
"""

from __future__ import annotations

import time

from benchmarks.held_out import Setting, parser_of, set_up
from psvit.allocate import METHODS, allocate
from psvit.capture.copying import private_copy
from psvit.guidance import Guide, find_guidance
from psvit.records import Plan
from psvit.recover import Origin, recover
from psvit.recover.matching import match_norms, watch_norms
from psvit.rewrite import rewrite
from psvit.saliency import obs_scores

ANALYSIS = 256


def main() -> None:
    parser = parser_of("search", images=1024, held_out=413)
    parser.add_argument("--save", type=float, default=0.5)
    options = parser.parse_args()
    found = set_up(options)
    guide = Guide(found.train, n=ANALYSIS, dense=found.dense, matched=True)
    ranking = obs_scores(found.dense)
    guidance = find_guidance(
        guide,
        found.model,
        found.graph,
        found.groups,
        ranking,
        method="optimal",
        units=("memory",),
        bounded=False,
        say=lambda text: None,
    )
    losses = {"measure_loss": guidance.measure_loss, "judge_loss": guidance.judge_loss}
    for method, more in [*((name, {}) for name in METHODS), ("optimal", losses)]:
        start = time.perf_counter()
        plan = allocate(
            found.graph, found.groups, ranking, {"memory": options.save}, method,
            curves=guidance.curves, **more,
        )  # fmt: skip
        took = f"  {time.perf_counter() - start:.0f} s" if more else ""
        _say(found, f"{method}{', searched' if more else ''}", plan, took)


def _say(found: Setting, name: str, plan: Plan, took: str) -> None:
    origin = Origin(found.graph, found.groups, plan, found.dense)
    small = recover(rewrite(found.graph, plan), found.images, "obs", origin)
    norms = watch_norms(private_copy(found.model), found.images)
    match_norms(small, found.images, norms, origin.cut)
    kl, right = found.held.judge(small)
    print(f"{name:18} KL {kl:.4f}  right {right:.1%}{took}", flush=True)


if __name__ == "__main__":
    main()
