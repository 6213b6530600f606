"""What loading the plan's room costs a process that has just started."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "tomlkit", "model_prices", "rich", "asyncio", "ownward.anatomy", "ownward.perf")
MOST_S = 0.4  # measured 0.03 on an idle slow core; the rest is for a busy machine


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_loading_the_room_loads_nothing_heavy():
    """The gateway reads plans at its start."""
    assert run(f"import sys, ownward.plan; print(sorted({set(HEAVY)!r} & set(sys.modules)))") == "[]"


def test_loading_the_room_and_a_plan_is_quick():
    """Best of three, so that a busy machine does not decide."""
    code = (
        "import time; start = time.perf_counter(); from ownward import plan; "
        "p = plan.for_single_model('m', model='m'); plan.loads(plan.dumps(p)); print(time.perf_counter() - start)"
    )
    assert min(float(run(code)) for _ in range(3)) < MOST_S
