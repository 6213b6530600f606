"""Faults put into the policy and its two enforcement points on purpose: the tests must notice each.

A mutant is one replacement in one file of a copy of the source; the tests run on the copy, in a process of their own.
"""

# ruff: noqa: E501 - a mutant is read side by side with what it replaces
from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STATE_MACHINE = ("tests/properties/gateway/test_sovereignty.py",)
OTHER_TESTS = (
    "tests/unit/policy", "tests/properties/policy", "tests/integration/gateway/test_where_data_may_go.py",
    "tests/integration/gateway/test_plans_loaded_meanwhile.py",
    "tests/integration/upstreams/test_door.py", "tests/integration/upstreams/test_door_demands.py",
    "tests/integration/upstreams/test_tls.py",
    "tests/integration/gateway/test_kept_responses.py", "tests/integration/ledger/test_kept_responses.py",
    "tests/unit/gateway", "tests/unit/plan/test_ways_to_an_upstream.py",
)  # fmt: skip
_LIMIT_S = 1200
_FAILED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault; `old` stands in the file exactly once."""

    name: str
    file: str
    old: str
    new: str


_ANY = '__import__("ownward.policy", fromlist=["ANY"]).ANY'
_LABELS = "policy/labels.py"
_PERMITS = "policy/permits.py"
_ADDRESSES = "policy/addresses.py"
_CHOOSING = "gateway/placing/choosing.py"
_MATCHING = "gateway/placing/matching.py"
_DOOR = "upstreams/door.py"
_QUESTION = "gateway/question.py"
_FAILOVER = "gateway/calling/failover.py"
_RACE = "gateway/calling/race.py"
_HTTP1 = "upstreams/http1.py"

MUTANTS = (
    # The labels themselves.
    Mutant(name="meet is a join", file=_LABELS,
           old="        return Label(_minimal(term for term in pairs if term is not None))",
           new="        del pairs\n        return Label(_minimal(self._terms | other._terms))"),
    Mutant(name="meet keeps the other side", file=_LABELS,
           old="        if self is other:\n            return self\n        pairs",
           new="        if self is other or other._terms:\n            return other\n        pairs"),
    Mutant(name="meet forgets providers", file=_LABELS,
           old="    provider = _both(mine[1], theirs[1])", new="    provider = mine[1]"),
    Mutant(name="meet forgets the site", file=_LABELS, old="mine[2] or theirs[2])", new="mine[2] and theirs[2])"),
    Mutant(name="everything is permitted", file=_LABELS,
           old="        if place.is_local:\n            return True\n", new="        if place.is_local or place:\n            return True\n"),
    Mutant(name="regions are compared by their beginning", file=_LABELS,
           old="(region is None or region == place.region)",
           new='(region is None or (place.region or "").startswith(region))'),
    Mutant(name="providers are compared by their beginning", file=_LABELS,
           old="(provider is None or provider == place.provider)",
           new='(provider is None or (place.provider or "").startswith(provider))'),
    Mutant(name="an unstated region matches", file=_LABELS,
           old="(region is None or region == place.region)", new="(region is None or place.region in {None, region})"),
    Mutant(name="one part of a label is enough", file=_LABELS,
           old="            and (provider is None or provider == place.provider)",
           new="            or (provider is None or provider == place.provider)"),
    Mutant(name="site is not asked for", file=_LABELS,
           old="provider == place.provider)\n                and (site is None or place.is_on_site)",
           new="provider == place.provider)\n                and True"),
    Mutant(name="a comma joins alternatives", file=_LABELS,
           old='stated.split("|") if', new='stated.replace(",", "|").split("|") if'),
    Mutant(name="local_only is read as any", file=_LABELS,
           old='        if words in (["local_only"], ["this_machine"], ["local"]):\n            return LOCAL_ONLY',
           new='        if words in (["local_only"], ["this_machine"], ["local"]):\n            return ANY'),
    Mutant(name="a wide term does not cover a narrow one", file=_LABELS, old="if not any(other != term", new="if not all(other == term"),
    # Permits.
    Mutant(name="permits are issued to all", file=_PERMITS,
           old="    if not label.permits(place):", new="    if not label.permits(place) and not body:"),
    Mutant(name="a permit covers any body", file=_PERMITS,
           old="        return body is self._body or", new="        return True or"),
    Mutant(name="a permit covers bodies of its length", file=_PERMITS,
           old="        return body is self._body or hashlib.sha256(body).hexdigest() == self.body_sha256",
           new="        return len(body) == len(self._body)"),
    Mutant(name="a permit keeps a body that can change", file=_PERMITS,
           old="    unchanging = bytes(body)", new="    unchanging = body"),
    # The first enforcement point: candidates.
    Mutant(name="nothing stated means anywhere", file="gateway/placing/routing.py",
           old="        default_label=LOCAL_ONLY if stated is None else stated,",
           new=f"        default_label={_ANY} if stated is None else stated,"),
    Mutant(name="unlabelled workloads go anywhere", file="plan/_read.py",
           old="default_label or LOCAL_ONLY, known_tiers", new=f"default_label or {_ANY}, known_tiers"),
    Mutant(name="a header replaces the label", file=_MATCHING,
           old="        met = label.meet(narrower)", new="        met = narrower"),
    Mutant(name="the key's label is not asked", file=_MATCHING,
           old='    narrowing = ((key_label, "the key"),', new='    narrowing = ((None, "the key"),'),
    Mutant(name="the header's label is not asked", file=_MATCHING,
           old='(asked.label, "the request\'s header")', new='(None, "the request\'s header")'),
    Mutant(name="a continued conversation forgets where its turns might go", file=_MATCHING,
           old='(asked.inherited, "an earlier turn"))', new='(None, "an earlier turn"))'),
    Mutant(name="only the last turn's own label is inherited", file="gateway/keeping/responses.py",
           old="map(_label_of, {turn.label for turn in self._turns})", new="[_label_of(self._turns[0].label)]"),
    Mutant(name="a response is kept with its plan's label alone", file="gateway/keeping/responses.py",
           old="            label=str(exchange.label),",
           new="            label=str(exchange.choice.declared.label if exchange.choice.declared else exchange.label),"),
    Mutant(name="anybody continues anybody's conversation", file="ledger/_kept.py",
           old="  WHERE response_id = ? AND owner = ? AND expires_at_us > ?", new="  WHERE response_id = ? AND ? IS NOT NULL AND expires_at_us > ?"),
    Mutant(name="anybody deletes anybody's response", file="ledger/_kept.py",
           old='"DELETE FROM kept_responses WHERE response_id = ? AND owner = ?"', new='"DELETE FROM kept_responses WHERE response_id = ? AND ? IS NOT NULL"'),
    Mutant(name="what is found in a request is not asked", file=_MATCHING,
           old="        met = label.meet(found.label)", new="        met = label"),
    Mutant(name="what is found in a request replaces the label", file=_MATCHING,
           old="        met = label.meet(found.label)", new="        met = found.label"),
    Mutant(name="only the first label header counts", file="gateway/head.py",
           old="        return reduce(Label.meet, map(Label.parse, stated))", new="        return Label.parse(stated[0])"),
    Mutant(name="the last label header counts", file="gateway/head.py",
           old="        return reduce(Label.meet, map(Label.parse, stated))", new="        return Label.parse(stated[-1])"),
    Mutant(name="an unreadable label header is passed over", file="gateway/head.py",
           old='    except OwnwardError as error:\n        raise MalformedRequest(\n            "the header x-ownward-label is not a label"',
           new='    except OwnwardError as error:\n        return None\n        raise MalformedRequest(\n            "the header x-ownward-label is not a label"'),
    Mutant(name="an unreadable label of a key is anywhere", file="gateway/holding/keys.py",
           old="    except OwnwardError:\n        return LOCAL_ONLY", new='    except OwnwardError:\n        return Label.parse("any")'),
    Mutant(name="candidates are not filtered by label", file="gateway/placing/eligible.py",
           old="target.unusable is None and label.permits(target.place) and", new="target.unusable is None and"),
    Mutant(name="what was chosen is remembered without its label", file=_CHOOSING,
           old="matched.workload, matched.why, matched.tiers, label, label_why,", new="matched.workload, matched.why, matched.tiers,"),
    Mutant(name="fallbacks are asked without the label", file="gateway/calling/strategy_run.py",
           old="[target for target in choice.targets if target.tier.name not in spec.tiers]",
           new="[t for ts in exchange.table.targets.values() for t in ts if t.tier.name not in spec.tiers]"),
    Mutant(name="a strategy's calls are made without the label", file="gateway/calling/strategy_run.py",
           old="targets = [target for target in self._choice.targets if target.tier.name == ask.tier]",
           new="targets = list(exchange.table.targets[ask.tier])"),
    Mutant(name="a tier that is pinned needs no label", file=_CHOOSING,
           old="    label, label_why = compute_label(asked, table, matched.declared)",
           new="    label, label_why = compute_label(asked, table, matched.declared)\n"
               '    if asked.tier is not None:\n        label = Label.parse("any")'),
    Mutant(name="a workload of a client's own has no label", file=_MATCHING,
           old="    label, why = table.default_label, table.default_label_origin",
           new="    label, why = table.default_label, table.default_label_origin\n"
               '    if declared is None and asked.workload:\n        label = Label.parse("any")'),
    # Places elsewhere, and probes of what is left alone.
    Mutant(name="a request spills to any tier of the plan", file=_FAILOVER,
           old="        for index, other in enumerate(self._candidates):\n",
           new="        more = [t for ts in self._exchange.table.targets.values() for t in ts if t not in self._candidates]\n"
               "        self._candidates += [] if self._exchange.outcome else more  # once: else it would spill for ever\n"
               "        for index, other in enumerate(self._candidates):\n"),
    Mutant(name="a request spills to tiers of its workload that its label forbids", file=_FAILOVER,
           old="        for index, other in enumerate(self._candidates):\n",
           new="        declared, targets = self._exchange.choice.declared, self._exchange.table.targets\n"
               "        names = (*declared.strategy.tiers, *declared.fallback)\n"
               "        more = [t for name in names for t in targets[name] if t not in self._candidates]\n"
               "        self._candidates += [] if self._exchange.outcome else more\n"
               "        for index, other in enumerate(self._candidates):\n"),
    Mutant(name="a probe where nothing else is up may go anywhere", file=_CHOOSING,
           old="        up = _last_resorts(eligible, ",
           new='        up = _last_resorts(Eligible(tiers=tuple(table.targets.values()), reason=""), '),
    Mutant(name="what was left alone is asked last without its label", file=_FAILOVER,
           old="for target in (*choice.left_alone, *self._went_down)",
           new="for target in (t for ts in self._exchange.table.targets.values() for t in ts)"),
    # Second calls, and plans that are loaded while a request is under way.
    Mutant(name="a second call goes to any tier of the plan", file=_RACE,
           old="            self._left,\n            self.pace.hedge,",
           new="            self._left.extend(t for ts in exchange.table.targets.values() for t in ts) or self._left,\n"
               "            self.pace.hedge,"),
    Mutant(name="a second call goes to tiers that the plan does not name", file="gateway/placing/hedging.py",
           old="        return target.tier.name in hedge.to\n", new="        return bool(target.tier.name)\n"),
    Mutant(name="a second call goes to rented tiers unasked", file="gateway/placing/hedging.py",
           old="target.tier.name == first.tier.name or target.tier.is_owned", new="bool(target.tier.name)"),
    Mutant(name="a second call heeds no plan that was loaded meanwhile", file=_RACE,
           old=" and exchange.may_still_go(target),", new=","),
    Mutant(name="a retry heeds no plan that was loaded meanwhile", file=_FAILOVER,
           old="        if not exchange.may_still_go(target):", new="        if self._tried < 0:"),
    Mutant(name="a plan that was loaded meanwhile is not looked at", file=_QUESTION,
           old="        if table is self.table:\n            return True", new="        if table is not None:\n            return True"),
    Mutant(name="a plan that was loaded meanwhile shrinks nothing", file=_QUESTION,
           old="            self.label = self.label.meet(name_refused(asked, table)[1])\n", new=""),
    Mutant(name="a plan that was loaded meanwhile widens the label", file=_QUESTION,
           old="            self.label = self.label.meet(name_refused(asked, table)[1])",
           new="            self.label = name_refused(asked, table)[1]"),
    Mutant(name="a plan that was loaded meanwhile looks for nothing", file=_QUESTION,
           old="            asked = await self.detect(self._asked_by(table, self._peeked), table)",
           new="            asked = self._asked_by(table, self._peeked)"),
    Mutant(name="the place is that of the plan before", file=_QUESTION,
           old="for one in (target, *now))", new="for one in (target,))"),
    Mutant(name="permits are asked for under any label", file="gateway/calling/attempt.py",
           old="            label=exchange.label,\n            place", new=f"            label={_ANY},\n            place"),
    Mutant(name="a permit outlives the plan that was loaded since", file="gateway/calling/attempt.py",
           old="            if gateway.table is not exchange.heeded:", new="            if gateway.table is None:"),
    Mutant(name="rented tiers at loopback are this machine", file="plan/_tiers.py",
           old="is_local=self.is_owned and all(upstream.is_local", new="is_local=all(upstream.is_local"),
    Mutant(name="private addresses are this machine", file="plan/_tiers.py",
           old="        return self._is_at(is_loopback_address)", new="        return self._is_at(is_private_address)"),
    Mutant(name="what lies behind a proxy is this machine", file="plan/_tiers.py",
           old="        if self.has_proxy:\n            return False\n        host", new="        host"),
    # The second: the door.
    Mutant(name="the door asks for no permit", file=_DOOR,
           old="        if type(permit) is not Permit:", new="        if permit is None:"),
    Mutant(name="the door does not compare the body", file=_DOOR,
           old="        if not permit.covers(body):", new="        if permit.covers(body) is None:"),
    Mutant(name="the door does not ask the label", file=_DOOR,
           old="        if not permit.label.permits(permit.place):", new="        if permit.label.permits(permit.place) is None:"),
    Mutant(name="the door lets local calls go anywhere", file=_DOOR, old="reach=permit.place.reach", new='reach="anywhere"'),
    Mutant(name="this machine's calls may go to the network", file="upstreams/_destination.py",
           old='        case "machine":\n            return is_loopback', new='        case "machine":\n            return is_private'),
    Mutant(name="the addresses of a call on site are not checked", file="upstreams/_destination.py",
           old='        case "site":\n            return is_private', new='        case "site":\n            return True'),
    Mutant(name="text may travel in the clear", file="upstreams/_destination.py",
           old='            return is_private or origin.scheme == "https"', new="            return True"),
    Mutant(name="only the first address is checked", file=_HTTP1,
           old="        for address in addresses:\n            to.check(", new="        for address in addresses[:1]:\n            to.check("),
    Mutant(name="kept connections are not checked", file=_HTTP1,
           old="        elif reach not in connection.reaches:", new="        elif reach is None:"),
    Mutant(name="metadata services may be called", file=_ADDRESSES,
           old="    return parsed.is_link_local or parsed.is_multicast", new="    return parsed.is_multicast"),
    Mutant(name="redirects are followed", file="upstreams/http1.py",
           old="                await response.wait(timeouts.first_byte_s)\n",
           new="                await response.wait(timeouts.first_byte_s)\n"
               '            if response.status == 307 and (to := response.header(b"location")):\n'
               "                return await self.exchange(Origin.parse(to.decode()), upstream=upstream, method=method,\n"
               "                    target=target, headers=headers, body=body, timeouts=timeouts, reach=reach)\n"),
    Mutant(name="TLS does not look at the name", file="upstreams/ways.py",
           old='    context.set_alpn_protocols(["http/1.1"])', new='    context.set_alpn_protocols(["http/1.1"])\n    context.check_hostname = False'),
    Mutant(name="the client's host header travels on", file="gateway/headers.py",
           old='_TO_UPSTREAM = (b"accept",', new='_TO_UPSTREAM = (b"accept", b"x-forwarded-for", b"cookie",'),
    # What stays behind.
    Mutant(name="upstreams' words are kept in the ledger", file="gateway/calling/relaying.py",
           old='began its stream with an error", allowed=', new='began its stream with an error: {tap.error}", allowed='),
    Mutant(name="any text is an answer's id", file="upstreams/_read_answer.py",
           old="_ID.fullmatch(value) is not None else None", new="value else None"),
    Mutant(name="bodies are kept that nobody asked to keep", file="gateway/keeping/bodies.py",
           old="    capture = None if choice.declared is None else choice.declared.capture\n",
           new="    from ownward.plan import Capture\n\n    capture = Capture(sample_fraction=1, retention_s=60)\n"),
    Mutant(name="bodies are logged", file="gateway/calling/attempt.py",
           old="            await entry.write_intent(spliced, permit)\n",
           new="            await entry.write_intent(spliced, permit)\n            import logging\n\n"
               '            logging.getLogger("ownward.gateway").debug("sending %s", spliced.body)\n'),
    Mutant(name="clients' headers are in the metrics", file="gateway/watching/counting.py",
           old="metrics.disconnects.add((tier,))", new="metrics.disconnects.add((str(dict(exchange.headers)),))"),
)  # fmt: skip


def check() -> list[str]:
    """Return the mutants that do not fit the source any more: nobody may believe that they were killed."""
    unfit: list[str] = []
    for mutant in MUTANTS:
        source = _read(mutant.file)
        if source.count(mutant.old) != 1:
            unfit.append(f"{mutant.name}: {source.count(mutant.old)} places in {mutant.file}")
            continue
        try:
            ast.parse(source.replace(mutant.old, mutant.new))
        except SyntaxError as error:
            unfit.append(f"{mutant.name}: no Python at line {error.lineno} of {mutant.file}")
    return unfit


def passes_unbroken() -> bool:
    """Tell whether the tests pass on a copy in which nothing was broken: else no failure below would mean a thing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        return not _fails(folder, (*STATE_MACHINE, *OTHER_TESTS))


def try_all(mutants: Iterable[Mutant] = MUTANTS) -> Iterator[dict[str, Any]]:
    """Yield for each mutant whether the state machine notices it, and if not, whether the other tests do."""
    for mutant in mutants:
        start_s = time.perf_counter()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
            path = folder / "src" / "ownward" / mutant.file
            text = path.read_text(encoding="utf-8")
            text = text.replace(mutant.old, mutant.new)
            path.write_text(text, encoding="utf-8")
            error = None
            try:
                by_machine = _fails(folder, STATE_MACHINE)
                by_tests = True if by_machine else _fails(folder, OTHER_TESTS)
            except (RuntimeError, subprocess.TimeoutExpired) as failure:
                by_machine, by_tests, error = False, False, str(failure)[-1000:]
        yield {
            "mutant": mutant.name,
            "file": mutant.file,
            "killed_by": "the state machine" if by_machine else "other tests" if by_tests else None,
            "error": error,
            "seconds": round(time.perf_counter() - start_s, 1),
        }


def _fails(folder: Path, tests: tuple[str, ...]) -> bool:
    """Tell whether some test fails on the copy; a copy that cannot even be read is no kill.

    Raises: RuntimeError, if the tests could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'src'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode not in {0, _FAILED} or "SyntaxError" in done.stdout or "ImportError" in done.stdout:
        raise RuntimeError(f"the tests could not be run: {done.stdout[-2000:]}{done.stderr[-500:]}")
    return done.returncode == _FAILED


def _read(file: str) -> str:
    return (ROOT / "src" / "ownward" / file).read_text(encoding="utf-8")
