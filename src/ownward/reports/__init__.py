"""Cost per completed task, savings, certificates and what is not known, from ledger rows.

It does not query the ledger and decides nothing.
"""

from ownward.reports._comparisons import render_comparisons
from ownward.reports._report import Report, TierLine, WorkloadLine, compute_report, render_report

__all__ = ["Report", "TierLine", "WorkloadLine", "compute_report", "render_comparisons", "render_report"]
