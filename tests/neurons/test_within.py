"""While a block runs, neurons do what they did, faster: the same spikes and the same state."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import psvit
from psvit.capture.program import inputs_of, prepare_program, run
from psvit.capture.running import Watcher, run_batch
from psvit.evaluate import accuracy
from psvit.neurons import one_pass, reset_state
from psvit.neurons import within as file
from psvit.neurons.kernel import kernel
from psvit.outputs import predict
from tests.neurons.test_fused import KINDS, stock

pytestmark = pytest.mark.skipif(kernel() is None, reason="no C compiler with OpenMP is installed")


class Counted:
    """Calls of the pass in C that gave spikes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        run = file._in_one_pass

        def counted(*args):
            spikes = run(*args)
            self.count += spikes is not None
            return spikes

        monkeypatch.setattr(file, "_in_one_pass", counted)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@settings(max_examples=60, deadline=None)
@given(
    kind=KINDS,
    threshold=st.sampled_from([1.0, 0.3]),
    reset=st.sampled_from([None, 0.0, -0.25]),
    tau=st.sampled_from([2.0, 1.5]),
    last=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_spikes_and_potentials_are_the_neuron_s(
    kind, threshold, reset, tau, last, training, seed
) -> None:
    own = stock(kind, threshold, reset, tau).train(training)
    reset_state(own)
    twin = copy.deepcopy(own)
    x = 2 * torch.randn((4, 2, 5, 3), generator=torch.Generator().manual_seed(seed))
    x = x.movedim(2, -1).contiguous().movedim(-1, 2) if last else x
    with torch.no_grad(), one_pass(twin):
        for part in (x, x[:2], x[2:]):  # without a reset: they go on from where they are
            assert torch.equal(twin(part), own(part))
            assert torch.equal(twin.v, own.v)
        reset_state(own)
        reset_state(twin)
        assert torch.equal(twin(x), own(x))
    assert "forward" not in vars(twin)


def test_it_is_what_runs(fast: Counted) -> None:
    node = stock("lif", 1.0, 0.0, 2.0)
    with torch.no_grad(), one_pass(node):
        node(torch.rand(4, 3))
        assert fast.count == 1
        node(torch.rand(4, 3))
    assert fast.count == 2
    node(torch.rand(4, 3))
    assert fast.count == 2


def test_gradients_are_the_neuron_s_own(fast: Counted) -> None:
    node = stock("lif", 1.0, 0.0, 2.0)
    found = []
    for inside in (False, True):
        reset_state(node)
        x = torch.linspace(0, 2, 12).view(4, 3).requires_grad_()
        if inside:
            with one_pass(node):
                node(x).sum().backward()
        else:
            node(x).sum().backward()
        found.append(x.grad)
    assert torch.equal(*found)
    assert found[0].abs().sum() > 0
    assert fast.count == 0


class Own(neuron.LIFNode):
    def multi_step_forward(self, x):
        return x


@pytest.mark.parametrize("what", ["another class", "single step", "double", "replaced", "v is set"])
def test_all_else_runs_as_it_is(what: str, fast: Counted) -> None:
    node = Own(step_mode="m") if what == "another class" else stock("lif", 1.0, 0.0, 2.0)
    x = 2 * torch.rand(4, 3)
    if what == "single step":
        node.step_mode, x = "s", x[0]
    if what == "double":
        x = x.double()
    if what == "replaced":
        node.forward = lambda x: 2 * x
    if what == "v is set":
        node.v = 0.75
    twin = copy.deepcopy(node)
    with torch.no_grad():
        with one_pass(twin):
            got = twin(x)
        assert torch.equal(got, node(x))
    assert fast.count == 0


def test_a_copy_made_inside_is_a_model_of_its_own() -> None:
    node = stock("lif", 1.0, 0.0, 2.0)
    with torch.no_grad(), one_pass(node):
        twin = copy.deepcopy(node)
        twin(torch.ones(4, 3))
    assert isinstance(twin.v, torch.Tensor)
    assert node.v == 0.0


def test_nothing_is_left_after_an_error() -> None:
    node = stock("lif", 1.0, 0.0, 2.0)
    with pytest.raises(ZeroDivisionError), one_pass(node):
        raise ZeroDivisionError
    assert "forward" not in vars(node)


class Net(nn.Module):
    """``[B, 6]`` -> ``[T, B, 12]``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 12)
        self.fire = neuron.LIFNode(v_threshold=0.2, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.fire(self.linear(x.unsqueeze(0).repeat(4, 1, 1)))


def test_accuracy_predictions_calibration_and_analysis_run_so(fast: Counted) -> None:
    torch.manual_seed(0)
    model, images = Net().eval(), torch.randn(3, 8, 6)
    assert accuracy(model, [(x, torch.arange(8)) for x in images]).n == 24
    assert fast.count == 3
    assert len(predict(model, [(x,) for x in images])) == 24
    assert fast.count == 6
    graph = psvit.capture(model, images[0][:2])
    with torch.no_grad():
        run_batch(graph, Watcher(graph), [images[0]])
    assert fast.count == 7
    program = prepare_program(graph.module, graph.forwards["eval"], (images[0],))
    with torch.no_grad():
        run(program, inputs_of(program, (images[0],)), 0, len(program.nodes))
    assert fast.count == 8  # that is how the sensitivity analysis runs a model
