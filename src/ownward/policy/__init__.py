"""Where a request's data may travel: labels that only shrink, and the permit each outbound call shows.

It does not know prices, health or load, and opens nothing.
"""

from ownward.policy.addresses import (
    is_forbidden_address,
    is_forbidden_literal,
    is_loopback_address,
    is_private_address,
)
from ownward.policy.detectors import DETECTOR_KINDS, UNEXAMINED_YET, DetectorKind, Detectors
from ownward.policy.labels import ANY, LOCAL_ONLY, Label, Place, Reach, effective_label
from ownward.policy.origins import Origin
from ownward.policy.permits import Permit, issue_permit

__all__ = [
    "ANY",
    "DETECTOR_KINDS",
    "LOCAL_ONLY",
    "UNEXAMINED_YET",
    "DetectorKind",
    "Detectors",
    "Label",
    "Origin",
    "Permit",
    "Place",
    "Reach",
    "effective_label",
    "is_forbidden_address",
    "is_forbidden_literal",
    "is_loopback_address",
    "is_private_address",
    "issue_permit",
]
