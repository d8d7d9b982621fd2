"""What is still wrong after compensation and matched statistics, and what closed forms could add.

    python -m benchmarks.limits [--model spikformer-digits] [--data digits] [--recipe cifar10]
        [--save 0.5] [--images 1024] [--held-out 384] [--judged 128]

Uniform pruning by obs, calibrated on --images training images, statistics matched. Prints how much
of what each batch norm puts out differs from the unpruned model, as a share of its variance, on a
batch of other images. Then the mean KL divergence from the unpruned model, in nats an image, and
the share of labels that are right, on --judged of the --held-out images: as it is; with all
deviations scaled; with the classifier fitted again to what the unpruned model says, by ridge
regression on more and more of the other held-out images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.held_out import BATCH, HeldOut, Setting, parser_of, set_up
from psvit.allocate import allocate
from psvit.capture.copying import private_copy
from psvit.neurons import reset_state
from psvit.recover import Origin, cut, norms_of
from psvit.recover.matching import Norms, match_norms, watch_norms
from psvit.saliency import obs_scores

FACTORS = (0.92, 1.05)
RIDGES = (0.01, 0.1, 1.0)


def main() -> None:
    parser = parser_of("limits", images=1024, held_out=384)
    parser.add_argument("--save", type=float, default=0.5)
    parser.add_argument("--judged", type=int, default=128)
    options = parser.parse_args()
    if options.judged + BATCH > options.held_out:
        parser.error(f"--held-out has to be {BATCH} more than --judged, or there is nothing to fit")
    found = set_up(options)
    plan = allocate(
        found.graph, found.groups, obs_scores(found.dense), {"memory": options.save}, "uniform"
    )
    origin = Origin(found.graph, found.groups, plan, found.dense)
    dense = private_copy(found.model)
    norms = watch_norms(dense, found.images)
    small = cut(found.graph, found.groups, origin.removal, found.dense)
    match_norms(small, found.images, norms, origin.cut)
    count = max(1, options.judged // BATCH)
    judged, rest = found.held.batches[:count], found.held.batches[count:]
    size = sum(len(images) for images, _ in judged)
    held = HeldOut(judged, found.held.teacher[:size])
    for name, share in differences(dense, small, origin, judged[0][0]):
        print(f"{name:32} {share:.2f} of the variance differs", flush=True)
    _say(held, "matched", small)
    for factor in FACTORS:
        _say(held, f"deviations times {factor}", scaled(found, origin, norms, factor))
    refit(small, held, rest, found.held.teacher[size:])


def _say(held: HeldOut, name: str, model: nn.Module) -> None:
    kl, right = held.judge(model)
    print(f"{name:32} KL {kl:.4f}  right {right:.1%}", flush=True)


def differences(
    dense: nn.Module, small: nn.Module, origin: Origin, images: torch.Tensor
) -> Iterator[tuple[str, float]]:
    """Of each norm of ``small``: mean (its output - the dense one's)^2 / the dense variance."""

    def note(name: str, norm: nn.Module, args: Any, out: torch.Tensor, *, to: Any) -> None:
        to[name] = out

    put_out: list[dict[str, torch.Tensor]] = []
    for model in (dense, small):
        seen: dict[str, torch.Tensor] = {}

        hooks = [
            norm.register_forward_hook(partial(note, name, to=seen))
            for name, norm in norms_of(model).items()
        ]
        reset_state(model)
        with torch.no_grad():
            model.eval()(images)
        reset_state(model)
        for hook in hooks:
            hook.remove()
        put_out.append(seen)
    for name, norm in norms_of(dense).items():
        before, after = (seen[name] for seen in put_out)
        axis = list(before.shape).index(norm.num_features, 1)
        own = torch.arange(norm.num_features, dtype=torch.float64)
        kept = origin.cut(f"{name}.running_mean", own).long()
        before = before.index_select(axis, kept)
        yield name, float((after - before).square().mean() / before.var())


def scaled(found: Setting, origin: Origin, norms: Norms, factor: float) -> nn.Module:
    """The pruned model with matched statistics, deviations times ``factor``, means as they are."""
    small = cut(found.graph, found.groups, origin.removal, found.dense)
    with torch.no_grad():
        for name, norm in norms_of(small).items():
            mean, var = norms.own[name]
            read = torch.stack([seen for seen, _ in norms.read[name]]).mean(0)
            off = origin.cut(f"{name}.running_mean", (read - mean) / (var + norm.eps).sqrt())
            norm.bias.add_((1 - factor) * norm.weight * off)
            norm.weight.mul_(factor)
    match_norms(small, found.images, norms, origin.cut)
    return small


def refit(model: nn.Module, held: HeldOut, rest: Sequence[Any], teacher: torch.Tensor) -> None:
    """Print what the classifier makes of ``held`` when it is fitted, in place, to ``teacher``.

    That is what the unpruned model says of the batches ``rest``, log-probabilities ``[N, K]``.
    """
    layer = [one for one in model.modules() if isinstance(one, nn.Linear)][-1]
    inputs: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda layer, args, out: inputs.append(args[0].double()))
    with torch.no_grad():
        for images, _ in rest:
            reset_state(model)
            model(images)
    hook.remove()
    x = torch.cat([one.mean(0) if one.ndim == 3 else one for one in inputs])
    wanted = teacher - teacher.mean(1, keepdim=True)
    old = layer.weight.detach().double()
    old = old - old.mean(0)  # what all classes share changes no probability
    n = min(1024, len(x))
    while True:
        mean, goal = x[:n].mean(0), wanted[:n].mean(0)
        own = (x[:n] - mean).T @ (x[:n] - mean) / n
        cross = (x[:n] - mean).T @ (wanted[:n] - goal) / n
        for ridge in RIDGES:
            inner = own + ridge * own.diagonal().mean() * torch.eye(len(own), dtype=own.dtype)
            weight = old + torch.linalg.solve(inner, cross - own @ old.T).T
            with torch.no_grad():
                layer.weight.copy_(weight)
                layer.bias.copy_(goal - weight @ mean)
            _say(held, f"classifier, {n} images, ridge {ridge:g}", model)
        if n == len(x):
            break
        n = min(2 * n, len(x))


if __name__ == "__main__":
    main()
