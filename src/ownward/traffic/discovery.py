"""Workloads found in traffic: requests whose prompts share their fixed part belong to one application.

Tools and response schema tell applications apart at once. Among prompts with the
same ones, the template is what many begin (or end) with; system prompts that differ in a few words are one.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ownward.core import as_name
from ownward.traffic.records import PromptSketch, TrafficRecord

_SAMPLE = 50_000
_MIN_TEMPLATE_WORDS = 3
_MIN_SHARE = 0.02  # of the prompts at a branch, for a next word to be part of a template and not of a slot
_MIN_SUPPORT = 3
_MIN_SUPPORT_SHARE = 0.01  # of all prompts compared, for a template
_SLOT_SHARE = 0.1  # where more than this share goes on in rare words, a slot begins
_SAME_SYSTEM = 0.5  # common share of word triples at which two system prompts are one template's
_MAX_SYSTEMS = 10_000  # distinct system prompts remembered for one contract
_CERTAIN_SHARE = 0.95
_KEY_FEATURES = 16
_MOST_FINGERPRINTS = 16  # told of a workload
_MOST_COUNTED = 1024

Words = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredWorkload:
    """A workload: a stable id, a short name from tools, schema or model, how many requests, and on what ground.

    `fingerprints` are those of its prompts' fixed parts, the most frequent first: what a plan can recognise it by.
    `basis` is `declared` (the log names it), `system prompt`, `template` (many prompts begin or
    end alike), `contract` (the same tools or schema alone) or `none` (nothing but the model tells it apart).
    """

    id: str
    name: str
    requests: int
    basis: str
    fingerprints: tuple[str, ...] = ()


class Discovery:
    """An iterator over records with their workload's id set; `workloads` is complete once it is exhausted.

    The first `sample` records are held back to learn templates from; later ones are matched as they pass.
    """

    def __init__(self, records: Iterable[TrafficRecord], *, default: str | None = None, sample: int = _SAMPLE) -> None:
        """Read nothing yet."""
        self._default = default
        self._records = iter(records)
        self._sample = sample
        self._counts: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        self._bases: dict[str, str] = {}
        self._learnt: dict[str, _Contract] = {}
        self._fingerprints: dict[str, Counter[str]] = defaultdict(Counter)

    def __iter__(self) -> Iterator[TrafficRecord]:
        """Yield each record with its workload; sketches are dropped."""
        held = list(itertools.islice(self._records, self._sample))
        by_contract: dict[str, list[PromptSketch]] = defaultdict(list)
        for record in held:
            if record.sketch is not None and record.workload is None:
                by_contract[record.sketch.contract].append(record.sketch)
        self._learnt = {contract: _Contract(sketches) for contract, sketches in by_contract.items()}
        for record in itertools.chain(held, self._records):
            stated, basis = self._place(record)
            workload_id = as_name(stated)  # a plan takes no other
            self._counts[workload_id] += 1
            self._note_fingerprint(workload_id, record.sketch)
            if workload_id not in self._names:
                self._names[workload_id] = _name(record, stated, basis)
                self._bases[workload_id] = basis
            yield replace(record, workload=workload_id, sketch=None)

    @property
    def workloads(self) -> tuple[DiscoveredWorkload, ...]:
        """The workloads so far, the largest first."""
        return tuple(
            DiscoveredWorkload(
                id=one,
                name=self._names[one],
                requests=count,
                basis=self._bases[one],
                fingerprints=tuple(name for name, _ in self._fingerprints[one].most_common(_MOST_FINGERPRINTS)),
            )
            for one, count in sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        )

    def _note_fingerprint(self, workload_id: str, sketch: PromptSketch | None) -> None:
        fingerprint = None if sketch is None else sketch.fingerprint
        counts = self._fingerprints[workload_id]
        if fingerprint is not None and (fingerprint in counts or len(counts) < _MOST_COUNTED):
            counts[fingerprint] += 1

    def _ungrounded(self, record: TrafficRecord) -> str:
        if self._default is not None:
            return self._default
        return f"model:{record.model}" if record.model else "all"

    def _place(self, record: TrafficRecord) -> tuple[str, str]:
        if record.workload is not None:
            return record.workload, "declared"
        sketch = record.sketch
        if sketch is None:
            return self._ungrounded(record), "none"
        learnt = self._learnt.get(sketch.contract)
        if learnt is None:
            learnt = self._learnt[sketch.contract] = _Contract([sketch])
        kind, key = learnt.find(sketch)
        if kind == "none" and (sketch.tool_names or sketch.schema_name):
            kind = "contract"
        if kind == "none" and not sketch.system:
            return self._ungrounded(record), "none"
        return _digest(sketch.contract, kind, key), kind


def discover(records: Iterable[TrafficRecord], *, default: str | None = None, sample: int = _SAMPLE) -> Discovery:
    """Return the records with a workload each, in their order; one that the log names is kept, in a plan's letters.

    Where nothing tells, the workload is `default`, or the model's where that is None.
    No text is kept: ids are hashes, names come from tools, schemas and models.
    """
    return Discovery(records, default=default, sample=sample)


class _Systems:
    """System prompts grouped by what they have in common, found through an index of their features."""

    def __init__(self) -> None:
        self._features: dict[str, frozenset[int]] = {}
        self._by_feature: dict[int, list[str]] = defaultdict(list)
        self._leaders: dict[str, str] = {}
        self._fixed: dict[str, frozenset[int]] = {}

    def key(self, leader: str) -> str:
        """Return what names a group whoever leads it: the smallest of the features that all its prompts have."""
        fixed = self._fixed.get(leader)
        return f"fixed:{sorted(fixed)[:_KEY_FEATURES]}" if fixed else leader

    def learn(self, system: str, features: frozenset[int]) -> str:
        """Return the leader of a prompt's group, and narrow down what all of the group have."""
        leader = self.find(system, features)
        self._fixed[leader] = self._fixed.get(leader, features) & features
        return leader

    def find(self, system: str, features: frozenset[int]) -> str:
        """Return the leader of a prompt's group, which it founds itself where none has enough in common."""
        known = self._leaders.get(system)
        if known is not None:
            return known
        shared = Counter(leader for feature in features for leader in self._by_feature.get(feature, ()))
        leader = system
        if shared:
            nearest = min(shared, key=lambda one: (-shared[one], one))
            if _common(features, self._features[nearest]) >= _SAME_SYSTEM:
                leader = nearest
        if len(self._leaders) < _MAX_SYSTEMS:
            self._leaders[system] = leader
            if leader == system:
                self._features[system] = features
                for feature in features:
                    self._by_feature[feature].append(system)
        return leader


class _Contract:
    """What was learnt from prompts with the same tools and schema."""

    def __init__(self, sketches: Sequence[PromptSketch]) -> None:
        self._systems = _Systems()
        examples = {sketch.system: sketch for sketch in sketches if sketch.system}
        support: Counter[str] = Counter()
        for system, count in sorted(
            Counter(sketch.system for sketch in sketches if sketch.system).items(), key=lambda item: (-item[1], item[0])
        ):
            support[self._systems.learn(system, examples[system].features)] += count
        # System prompts with a document inside have little in common but their beginning.
        self._frequent = {leader for leader, count in support.items() if count >= _MIN_SUPPORT}
        single = sorted(support.keys() - self._frequent)
        self._system_openings = _learn([examples[leader].opening for leader in single])
        unguided = [sketch for sketch in sketches if not sketch.system]
        self._openings = _learn([sketch.opening for sketch in unguided])
        self._closings = _learn([sketch.closing for sketch in unguided])

    def find(self, sketch: PromptSketch) -> tuple[str, str]:
        """Return the ground and the key of a prompt's workload."""
        if sketch.system:
            leader = self._systems.find(sketch.system, sketch.features)
            length = 0 if leader in self._frequent else _match(self._system_openings, sketch.opening)
            return "system prompt", f"begins:{sketch.opening[:length]}" if length else self._systems.key(leader)
        for side, templates, words in (
            ("begins", self._openings, sketch.opening),
            ("ends", self._closings, sketch.closing),
        ):
            length = _match(templates, words)
            if length:
                return "template", f"{side}:{words[:length]}"
        return "none", ""


def _common(left: frozenset[int], right: frozenset[int]) -> float:
    """Return the estimated share that two sets have in common, from the smallest hashes of each."""
    if not left or not right:
        return 0.0
    smallest = sorted(left | right)[: max(len(left), len(right))]
    return sum(one in left and one in right for one in smallest) / len(smallest)


def _learn(prompts: Sequence[Words]) -> frozenset[Words]:
    """Return the beginnings that are templates: shared by many, up to where the words scatter.

    What people write narrows down word by word; a template has words that all but follow from those before. So a
    template has at least three words that nearly all prompts with its beginning go on with.
    """
    support = max(_MIN_SUPPORT, _MIN_SUPPORT_SHARE * len(prompts))
    templates: set[Words] = set()
    stack: list[tuple[int, int, list[Words]]] = [(0, 0, [words for words in prompts if words])]
    while stack:
        depth, certain, group = stack.pop()
        if len(group) < support:
            continue
        branches: dict[int, list[Words]] = defaultdict(list)
        for words in group:
            if len(words) > depth:
                branches[words[depth]].append(words)
        ended = len(group) - sum(map(len, branches.values()))
        enough = max(support, _MIN_SHARE * len(group))
        large = [branch for branch in branches.values() if len(branch) >= enough]
        rare = len(group) - ended - sum(map(len, large))
        if certain >= _MIN_TEMPLATE_WORDS and (not large or rare > _SLOT_SHARE * len(group)):
            templates.add(group[0][:depth])  # here a slot begins, or the words kept of each prompt end
            continue
        if certain >= _MIN_TEMPLATE_WORDS and ended >= enough:
            templates.add(group[0][:depth])
        stack.extend((depth + 1, certain + (len(branch) >= _CERTAIN_SHARE * len(group)), branch) for branch in large)
    return frozenset(templates)


def _match(templates: frozenset[Words], words: Words) -> int:
    """Return the length of the longest template that the words begin with; 0 for none."""
    for length in range(len(words), _MIN_TEMPLATE_WORDS - 1, -1):
        if words[:length] in templates:
            return length
    return 0


def _digest(*parts: str) -> str:
    return f"w-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"


def _name(record: TrafficRecord, workload_id: str, basis: str) -> str:
    if basis == "declared" or record.sketch is None or not workload_id.startswith("w-"):
        return workload_id
    sketch = record.sketch
    base = sketch.schema_name or "+".join(sketch.tool_names[:2]) or record.model or "chat"
    return f"{base}-{workload_id[2:6]}"
