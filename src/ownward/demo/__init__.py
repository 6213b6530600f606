"""The whole loop once, on shipped real data and the embedded model.

It adds nothing that the other rooms do not offer to everyone.
"""

from ownward.demo._run import MODEL, SERVICE_LEVEL, DemoResult, TrialLine, claim_folder, run_demo

__all__ = ["MODEL", "SERVICE_LEVEL", "DemoResult", "TrialLine", "claim_folder", "run_demo"]
