"""What `ownward ledger show` says of sums that are known in part."""

import pytest

from ownward import ledger
from ownward.cli import run
from ownward.cli._ledger_screen import _spent
from ownward.ledger import Spend


def spend(settled_picousd, unpriced_attempts):
    return Spend(
        settled_picousd=settled_picousd,
        low_picousd=settled_picousd,
        high_picousd=settled_picousd,
        unsettled_attempts=0,
        unpriced_attempts=unpriced_attempts,
        unbounded_attempts=0,
    )


def test_a_call_of_unknown_charge_does_not_hide_what_the_others_cost():
    known = _spent(spend(4_500_000_000, 0))
    assert "0.0045" in known
    assert _spent(spend(4_500_000_000, 1200)) == f"{known} + 1,200 unknown"
    assert _spent(spend(0, 2)) == "?"
    assert "?" not in _spent(spend(0, 0))


COMPARED = "what was imported is compared by ownward plan"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("ledger", "show"), "nothing has been served or imported yet: ownward serve and ownward import write here"),
        (
            ("report",),
            f"nothing has been served yet: this reports on requests through ownward serve; {COMPARED}",
        ),
        (("keys", "list"), "no keys yet. Make one with: ownward keys create NAME"),
    ],
)
def test_a_ledger_that_holds_nothing_is_told_so_and_what_would_fill_it(tmp_path, capsys, command, said):
    ledger.open(tmp_path / "l.db").close()
    assert run([*command, "--ledger", str(tmp_path / "l.db")]) == 0
    assert " ".join(capsys.readouterr().out.split()) == said
