"""A plan as text for its file: new with comments, or written into a file that people have edited."""

from __future__ import annotations

from ownward.plan._plan import Plan
from ownward.plan._write import Path, write_text

_HEAD = """\
# An ownward plan: where every request goes, and by which figures that was decided.
# Edit it freely: comments and order survive when ownward writes it again.
# Money is exact and quoted. Every figure says its basis, its source and the day it was checked.

"""

_COMMENTS: dict[Path, str] = {
    ("tiers",): 'Where requests can be served: "owned" on your hardware, "rented" by the token.',
    ("workloads",): "What kinds of requests there are. The most specific match serves; the order does not matter.",
    ("figures",): "What the plan was decided by.",
}


def dumps(plan: Plan, previous_text: str | None = None) -> str:
    """Return the plan as TOML.

    With `previous_text`, the plan's file as it stands, only what changed is
    changed in it: comments, order and spelling of everything else survive.
    Raises: ConfigError, if `previous_text` is no plan: a broken file is never replaced unseen.
    """
    new_text = _HEAD + write_text(plan, _COMMENTS.get)
    if previous_text is None or not previous_text.strip():
        return new_text
    from ownward.plan._rewrite import rewrite

    return rewrite(plan, previous_text, new_text)
