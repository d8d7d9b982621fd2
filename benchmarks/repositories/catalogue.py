"""Public SViT repositories, and how to build a small model from each, as its authors wrote it."""

from __future__ import annotations

from benchmarks.repositories.events import EVENTS
from benchmarks.repositories.families import FAMILIES
from benchmarks.repositories.published import Published
from benchmarks.repositories.tasks import TASKS
from benchmarks.repositories.variants import VARIANTS

CATALOGUE: tuple[Published, ...] = (*FAMILIES, *VARIANTS, *EVENTS, *TASKS)

LEFT_OUT: tuple[tuple[str, str], ...] = (
    (
        "AnonymousPaper2026/MedSpikeFormer",
        "its own `utils/micro.py` does not import, in any Python",
    ),
    ("BICLab/Spike2Former", "the backbone is E-SpikeFormer; the rest needs mmcv's compiled parts"),
    ("BICLab/SpikeYOLO", "convolutions, no transformer"),
    ("Chrazqee/SpikingVit", "takes objects of hydra and omegaconf, which have to be installed"),
    ("DevSlem/spikformer-like-models", "notebooks"),
    ("Event-AHU/SSTFormer", "a part of mmaction, whose compiled parts have to be installed"),
    ("Fancyssc/Spiking-Transformers", "the forerunner of STEP"),
    ("ILoveAAAI/MedQKFormer", "imports parts of its own that the repository lacks"),
    ("Intelligent-Computing-Research-Group/SpikeZIP-TF", "an ANN until its script converts it"),
    ("KAVYANSHTYAGI/LiquidSpikeFormer", "no spikes: ReLU"),
    ("Naman837/byop_2y-qkformer-sssa_snnvit-", "notebooks"),
    ("PeppaWu/SPT", "points in space, by CUDA kernels that have to be compiled"),
    ("StephenTaylor1998/amazing-cls", "needs mmpretrain"),
    ("Typistchen/SpikMamba", "state spaces, by CUDA kernels that have to be compiled"),
    ("j-blake-s/FinalSpikFormerRepo", "copies of Spikformer and SpikeViT"),
    ("meera-m-t/Spiking-Transformer", "needs SpykeTorch, which has no package"),
    ("yult0821/SVFormer", "needs slowfast, fvcore and what they need"),
)
"""Repositories that were read and are not examined, and why."""
