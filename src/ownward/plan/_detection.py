"""What is looked for in requests so that their label can shrink: checked here, carried out by the gateway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ownward.core import UsageError
from ownward.plan._problems import Problem, find_repeated, name_problems, shown, suggest
from ownward.policy import DETECTOR_KINDS, Detectors


def detection_problems(detect: Iterable[str], patterns: Mapping[str, str]) -> Iterable[Problem]:
    """Yield unknown and repeated detectors, and patterns that are none of those that are taken."""
    listed = tuple(detect)
    for index, kind in enumerate(listed):
        if kind not in DETECTOR_KINDS:
            yield Problem(
                f"detect[{index}]", f"is {shown(kind)}, which is not a detector", suggest(kind, DETECTOR_KINDS)
            )
    for index, kind in find_repeated(listed):
        yield Problem(f"detect[{index}]", f"is {shown(kind)} for a second time", "Write it once")
    for name, pattern in patterns.items():
        key = f"detect_patterns.{name}"
        yield from name_problems(key, name)
        if name in DETECTOR_KINDS:
            yield Problem(key, "is the name of a shipped detector", "Choose another name")
        try:
            Detectors(kinds=(), patterns={name: pattern})
        except UsageError as error:
            yield Problem(key, f"is not accepted: {error.message}", error.allowed)
