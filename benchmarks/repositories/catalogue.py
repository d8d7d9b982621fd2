"""Public SViT repositories, and how to build a small model from each, as its authors wrote it."""

from __future__ import annotations

from benchmarks.repositories.events import EVENTS
from benchmarks.repositories.families import FAMILIES
from benchmarks.repositories.published import Published
from benchmarks.repositories.tasks import TASKS
from benchmarks.repositories.variants import VARIANTS

CATALOGUE: tuple[Published, ...] = (*FAMILIES, *VARIANTS, *EVENTS, *TASKS)
