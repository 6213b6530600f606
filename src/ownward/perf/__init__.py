"""Step time: what a deployment's prefill and decode cost, from operators and measured efficiencies, with a band.

It does not know where requests come from or what anything costs.
"""

from ownward.perf._step_model import StepModel

__all__ = ["StepModel"]
