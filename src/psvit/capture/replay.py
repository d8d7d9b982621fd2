"""A module that runs recorded forwards: one module tree, a forward for eval, one for train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from psvit.errors import ModelError
from psvit.records import Mode

Forward = Callable[..., Any]


class RecordedModel(nn.Module):
    """Runs the graph of the mode it is in over the submodules of ``root``, names unchanged.

    State-dict keys are those of the original model. Tensors that the original held outside its
    state dict are buffers named ``constant_<n>``.
    """

    def __init__(self, root: nn.Module, graphs: Mapping[Mode, fx.Graph]) -> None:
        super().__init__()
        self._parameters.update(root._parameters)
        self._buffers.update(root._buffers)
        self._modules.update(root._modules)
        self._non_persistent_buffers_set |= root._non_persistent_buffers_set
        for graph in graphs.values():
            for node in graph.nodes:
                if node.op == "get_attr" and "." not in node.target:
                    value = root.__dict__.get(node.target)
                    if value is not None:
                        setattr(self, node.target, value)
        self._forwards: dict[bool, Forward] = {
            mode == "train": compile_graph(graph) for mode, graph in graphs.items()
        }
        self.original_class = getattr(root, "original_class", type(root).__qualname__)
        self.training = root.training

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The original's output; raises whatever its operations raise."""
        if self.training not in self._forwards:
            raise ModelError("this model was made for inference alone: call its eval() first")
        return self._forwards[self.training](self, *inputs)

    def extra_repr(self) -> str:
        return f"recorded from {self.original_class}"


def compile_graph(graph: fx.Graph) -> Forward:
    """The Python function ``forward(self, *inputs)`` that a graph describes."""
    code = graph.python_code("self")
    namespace: dict[str, Any] = dict(code.globals)
    exec(compile(code.src, "<psvit recorded forward>", "exec"), namespace)
    forward: Forward = namespace["forward"]
    return forward
