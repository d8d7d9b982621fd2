"""Take tensors back out of caches that outlive a forward.

A forward may keep what it computes where every later one finds it: in ``functools.cache``, in a
dictionary, in a global variable. Tensors without data must not stay there.
"""

from __future__ import annotations

import functools
import gc
from typing import Any

import torch

_CACHE: Any = type(functools.cache(lambda: None))
_LINKS = ("dict", "tuple", "list", "_lru_list_elem")


def forget(tensors: tuple[torch.Tensor, ...]) -> None:
    """Remove tensors from function caches, dictionaries and lists, variables and attributes.

    A global variable or an attribute that held one is None afterwards.
    """
    ids = {id(t) for t in tensors}
    for function in [o for o in gc.get_objects() if type(o) is _CACHE]:
        if _holds(function, ids):
            function.cache_clear()
    for tensor in tensors:
        for owner in gc.get_referrers(tensor):
            if type(owner) is list:
                owner[:] = [one for one in owner if one is not tensor]
            names = owner if type(owner) is dict else getattr(owner, "__dict__", None)
            if type(names) is dict:
                for key in [k for k, v in names.items() if v is tensor]:
                    if names is owner and "__name__" not in names:
                        del names[key]
                    else:
                        names[key] = None


def _holds(function: Any, ids: set[int]) -> bool:
    """Whether the results that a function keeps are, or directly hold, one of these objects."""
    waiting, seen = [function], {id(function)}
    while waiting:
        for one in gc.get_referents(waiting.pop()):
            if id(one) in ids:
                return True
            if id(one) not in seen and type(one).__name__ in _LINKS:
                seen.add(id(one))
                waiting.append(one)
    return False
