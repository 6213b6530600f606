"""Reports as tables for people: cost per completed task with its savings, certificates and gaps; a model's anatomy.

It renders what it is given: it does not query the ledger and decides nothing.
"""

from ownward.reports._anatomy_page import (
    BATCH_TOKENS,
    CONTEXT_TOKENS,
    AnatomyPage,
    CacheLine,
    WeightLine,
    compute_anatomy_page,
    render_anatomy_page,
)
from ownward.reports._comparisons import render_comparisons
from ownward.reports._fit_page import write_fit_page
from ownward.reports._fit_report import FitFacts, FitLine, FitReport, LaunchCommand
from ownward.reports._fit_screen import render_fit
from ownward.reports._fit_text import command_lines
from ownward.reports._fitted_table import Fitted
from ownward.reports._live_metrics import Frame, Look, compute_frame
from ownward.reports._live_screen import render_frame
from ownward.reports._release_page import render_checkpoints, render_licence, render_release, render_scores
from ownward.reports._report import (
    Hedging,
    Report,
    TierLine,
    WorkloadLine,
    compute_report,
    price_steps,
    render_report,
)

__all__ = [
    "BATCH_TOKENS",
    "CONTEXT_TOKENS",
    "AnatomyPage",
    "CacheLine",
    "FitFacts",
    "FitLine",
    "FitReport",
    "Fitted",
    "Frame",
    "Hedging",
    "LaunchCommand",
    "Look",
    "Report",
    "TierLine",
    "WeightLine",
    "WorkloadLine",
    "command_lines",
    "compute_anatomy_page",
    "compute_frame",
    "compute_report",
    "price_steps",
    "render_anatomy_page",
    "render_checkpoints",
    "render_comparisons",
    "render_fit",
    "render_frame",
    "render_licence",
    "render_release",
    "render_report",
    "render_scores",
    "write_fit_page",
]
