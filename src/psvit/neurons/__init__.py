"""Spiking neurons: their state, and plain ones computed in less time."""

from psvit.neurons.dynamics import Dynamics as Dynamics
from psvit.neurons.dynamics import dynamics_of as dynamics_of
from psvit.neurons.fused import FusedNeuron as FusedNeuron
from psvit.neurons.state import reset_state as reset_state
from psvit.neurons.within import one_pass as one_pass
