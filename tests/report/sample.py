"""Data for every section of the page, made up so that each number is known."""

from __future__ import annotations

from dataclasses import replace

from psvit.records import Curves, Figures, Point
from psvit.report.data import BudgetStep, GroupRow, Rate, ReportData, Trial

BEFORE = Figures(
    memory_bytes=16_600_000, params=4_150_000, macs=2_400_000_000, accuracy=0.9544,
    accuracy_low=0.9501, accuracy_high=0.9583, n=10_000, sops=402_000_000.0,
    energy_pj=3.62e8, latency_ms=91.6,
)  # fmt: skip
AFTER = replace(
    BEFORE, memory_bytes=12_880_000, params=3_210_000, macs=1_840_000_000, accuracy=0.9471,
    accuracy_low=0.9425, accuracy_high=0.9513, sops=311_000_000.0, energy_pj=2.8e8,
    latency_ms=74.2,
)  # fmt: skip
SHARES = tuple(i / 40 for i in range(40))
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def shuffled(size: int, cells: int) -> tuple[int, ...]:
    """Ranks in each cell, in an order that looks random and is not."""
    each = size // cells
    return tuple((c % each * 37 + 11) % each for c in range(size))


def row(name: str, role: str, size: int, share: float, cells: int = 1) -> GroupRow:
    """A group that has lost its first `share`, in the order of `shuffled`."""
    level = round(share * size / cells)
    order = shuffled(size, cells)
    removed = tuple(c for c in range(size) if order[c] < level)
    heads = cells if role in ("qk", "v") else 0
    return GroupRow(name, role, size, size - len(removed), cells, heads, None, removed, order)


def rows() -> tuple[GroupRow, ...]:
    """A Spikformer's groups: four patch stages, four blocks of 12 heads, and the classifier."""
    found = [row("patch_embed.proj_conv", "hidden", 48, 0.1)]
    found += [row(f"patch_embed.proj_conv{i}", "hidden", 96 * i, 0.12) for i in (1, 2)]
    found.append(row("block.0.attn.proj_conv (+9)", "residual stream", 384, 0.05))
    for b in range(4):
        found.append(row(f"block.{b}.attn.q_conv", "qk", 384, 0.25, 12))
        found.append(row(f"block.{b}.attn.v_conv", "v", 384, 0.25, 12))
        found.append(row(f"block.{b}.mlp.fc1_conv", "hidden", 1536, 0.2 + 0.05 * b))
    head = GroupRow("head", "hidden", 10, 10, locked="the model's output", removed=())
    return (*found, head)


def curves() -> Curves:
    """Losses that rise with the ratio, the later the tie the less."""
    names = [g.name for g in rows()[:-1]]
    points = []
    for tie, name in enumerate(names):
        for ratio in RATIOS:
            kl = 2.0 * ratio**3 / (1 + tie)
            drop = kl / 10 - 0.001
            points.append(
                Point(
                    tie=tie, ratio=ratio, removed=round(ratio * 32), n=512, kl=kl,
                    kl_low=0.9 * kl, kl_high=1.1 * kl, accuracy_drop=drop,
                    accuracy_drop_low=drop - 0.004, accuracy_drop_high=drop + 0.004,
                    rate_drift=kl / 20, potential_drift=kl / 5,
                    saved={"memory": 120_000.0 * ratio},
                )
            )  # fmt: skip
        assert name
    return Curves("f" * 16, {}, dict(enumerate(names)), BEFORE, tuple(points))


def path() -> tuple[BudgetStep, ...]:
    """Uniform plans and, among them, that of `rows`."""
    steps = []
    for share in SHARES:
        saved = 1 - (1 - share) ** 2
        widths = [g.before - g.cells * int(share * g.before / g.cells) for g in rows()]
        widths[-1] = rows()[-1].before
        units = {"memory": saved, "params": saved, "macs": saved}
        steps.append(BudgetStep(units, tuple(widths), 0.4 * share**2 if share < 0.8 else None))
    mine = BudgetStep(
        {"memory": 0.2241, "params": 0.2265, "macs": 0.2333},
        tuple(g.after for g in rows()), 0.0061, True,
    )  # fmt: skip
    return tuple(sorted([*steps, mine], key=lambda step: step.saved["memory"]))


def trials() -> tuple[Trial, ...]:
    """Four methods at five budgets."""
    worst = {"random": 0.9, "uniform": 0.45, "psvit": 0.3, "optimal": 0.2}
    return tuple(
        Trial(method, saved, acc, acc - 0.006, acc + 0.005)
        for method, slope in worst.items()
        for saved in (0.1, 0.224, 0.267, 0.4, 0.5)
        for acc in (0.9544 - slope * saved**2,)
    )


def recovery() -> dict[str, object]:
    """Three steps, of which the last was not kept."""
    tried = (
        ("bn", 0.31, 0.12, True, True, 3.1),
        ("obs", 0.12, 0.014, True, True, 20.4),
        ("lsq", 0.014, 0.019, False, False, 31.0),
    )
    keys = ("step", "kl_before", "kl_after", "kept", "bn", "seconds")
    return {
        "images": 768,
        "held_out": 256,
        "steps": [dict(zip(keys, one, strict=True)) for one in tried],
        "notes": ["more images would help <here>"],
    }


def full() -> ReportData:
    """Every section."""
    return ReportData(
        before=BEFORE,
        after=AFTER,
        title="spikformer-4-384",
        groups=rows(),
        path=path(),
        loss_unit="points",
        curves=curves(),
        trials=trials(),
        rates=tuple(
            Rate(f"block.{b}.{layer}", rate, rate * 0.9 + 0.01 * b)
            for b in range(3)
            for layer, rate in (
                ("attn.q_lif", 0.081),
                ("attn.attn_lif", 0.212),
                ("mlp.fc1_lif", 0.043),
            )
        ),
        recovery=recovery(),
        control=replace(BEFORE, accuracy=0.9551),
        load="import psvit\n\nmodel = psvit.load('out')\nlogits = model(images)",
        command="psvit prune spikformer-4-384 --data cifar10 --save memory=22.4% -o out",
        facts=(("method", "optimal"), ("seed", "0"), ("sha256 of model.safetensors", "ab12" * 16)),
        method="optimal",
    )
