"""The whole loop once, on shipped real data and the embedded model.

It adds nothing that the other rooms do not offer to everyone.
"""

from ownward.demo._run import DemoResult, TrialLine, run_demo

__all__ = ["DemoResult", "TrialLine", "run_demo"]
