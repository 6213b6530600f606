"""The world of the state machine: hosts, tiers, plans and labels, and what each label means, told a second time.

Nothing here uses `ownward.policy`: a label is a list of alternatives, a place is four facts, and whether one permits
the other is a loop over them. The gateway reads the same labels as text, from a plan in TOML.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from benchmarks.sovereignty.network import Host

REGIONS = ("eu", "us", "eu-west")
PROVIDERS = ("mistral", "openai", "mist")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What is true of a tier's place."""

    machine: bool = False
    site: bool = False
    region: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """What one alternative of a label asks for; nothing: any place."""

    region: str | None = None
    provider: str | None = None
    site: bool = False

    def takes(self, where: Where) -> bool:
        """Tell whether a place is one of those meant."""
        if self.site and not (where.site or where.machine):
            return False
        if self.region is not None and where.region != self.region:
            return False
        return self.provider is None or where.provider == self.provider


Stated = tuple[Alternative, ...]
"""A label: places that any of the alternatives means, and this machine. None at all: this machine alone."""

ANYWHERE: Stated = (Alternative(),)
HERE: Stated = ()


def permits(stated: Stated, where: Where) -> bool:
    """Tell whether a label lets data go to a place."""
    return where.machine or any(alternative.takes(where) for alternative in stated)


def text_of(stated: Stated, *, style: int = 0) -> str:
    """Return a label as a person may write it; `style` varies spelling, never meaning."""
    if stated == ANYWHERE:
        return ("any", " ANY ")[style % 2]
    if not stated:
        return ("local_only", "this_machine", "local")[style % 3]
    words = []
    for one in stated:
        region = None if one.region is None else (one.region, f"region:{one.region}", one.region.upper())[style % 3]
        provider = None if one.provider is None else f"provider:{one.provider}"
        parts = [part for part in (region, provider, "site" if one.site else None) if part]
        words.append((" + " if style % 2 else "+").join(reversed(parts) if style % 5 == 4 else parts))
    return ("|", " | ")[style % 2].join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A tier, as the plan may state it, and the host behind it."""

    name: str
    host: str
    url: str
    kind: str
    region: str | None = None
    provider: str | None = None
    engine: str | None = None
    dialect: str = "openai"

    @property
    def where(self) -> Where:
        """The facts: which host it is decides, and what the plan says of region and provider."""
        machine = self.kind == "owned" and self.host in {"engine", "desk"}
        site = machine or (self.kind == "owned" and self.host in {"rack", "attic"})
        return Where(machine=machine, site=site, region=self.region, provider=self.provider)


def make_hosts() -> list[Host]:
    """Return everyone on the network; `stranger`, `metadata` and `envproxy` are in no plan."""
    return [
        Host("engine", ("127.0.0.1", 9001)),
        Host("desk", ("127.0.0.1", 9002)),
        Host("relay", ("127.0.0.1", 9009)),
        Host("rack", ("10.0.0.5", 8000)),
        Host("attic", ("192.168.7.7", 8000)),
        Host("cloudbox", ("203.0.114.9", 443), names=frozenset({"gpu.example.com"})),
        Host("mistral", ("203.0.114.10", 443), names=frozenset({"api.mistral.example"})),
        Host("openai", ("203.0.114.11", 443), names=frozenset({"api.openai.example"})),
        Host("claude", ("203.0.114.12", 443), names=frozenset({"api.claude.example"})),
        Host("nowhere", ("203.0.114.13", 443), names=frozenset({"nowhere.example"})),
        Host("stranger", ("198.18.5.5", 443), names=frozenset({"stranger.example"})),
        Host("strangers-http", ("198.18.5.5", 9002)),
        Host("neighbour", ("10.0.0.99", 9002)),
        Host("metadata", ("169.254.169.254", 443), names=frozenset({"api.mistral.example"})),
    ]


NAMES = {
    "localhost": ["127.0.0.1"],
    "gpu.example.com": ["203.0.114.9"],
    "api.mistral.example": ["203.0.114.10"],
    "api.openai.example": ["203.0.114.11"],
    "api.claude.example": ["203.0.114.12"],
    "nowhere.example": ["203.0.114.13"],
    "stranger.example": ["198.18.5.5"],
}
"""Where names lead, to begin with."""

MOVES = (
    ("localhost", ("198.18.5.5",)),
    ("localhost", ("10.0.0.99",)),
    ("localhost", ("127.0.0.1", "198.18.5.5")),
    ("api.mistral.example", ("198.18.5.5",)),
    ("api.mistral.example", ("169.254.169.254",)),
    ("api.openai.example", ("198.18.5.5",)),
    ("gpu.example.com", ("198.18.5.5",)),
    ("api.claude.example", ()),
)
"""Where an attacker, or a mistake, may lead them: to strangers, to the neighbour's machine, to a metadata service."""

SPOTS = (
    Spot(name="engine", host="engine", url="http://127.0.0.1:9001", kind="owned", engine="llama-server"),
    Spot(name="desk", host="desk", url="http://localhost:9002", kind="owned", engine="adopted", region="eu"),
    Spot(name="rack", host="rack", url="http://10.0.0.5:8000", kind="owned", engine="vllm", region="eu"),
    Spot(name="attic", host="attic", url="http://192.168.7.7:8000", kind="owned", engine="adopted"),
    Spot(name="cloudbox", host="cloudbox", url="https://gpu.example.com", kind="owned", engine="adopted", region="us"),
    Spot(name="relay", host="relay", url="http://127.0.0.1:9009", kind="rented", provider="mist", region="eu-west"),
    Spot(name="mistral", host="mistral", url="https://api.mistral.example/v1", kind="rented", provider="mistral",
         region="eu"),
    Spot(name="openai", host="openai", url="https://api.openai.example/v1", kind="rented", provider="openai",
         region="us"),
    Spot(name="claude", host="claude", url="https://api.claude.example", kind="rented", provider="openai",
         region="eu", dialect="anthropic"),
    Spot(name="nowhere", host="nowhere", url="https://nowhere.example", kind="rented"),
)  # fmt: skip

HEDGE_AFTER_S = 0.002
"""Sooner than a `late` host answers."""

SPILLS_AFTER_S = (None, 0.0, 0.0, 0.002)
"""After how long a request leaves a full tier; a `late` host answers later."""

STRATEGIES = ("direct", "direct", "direct", "cascade", "vote", "best_of", "revise", "forest")
_OPTIONS: dict[str, dict[str, Any]] = {
    "direct": {},
    "cascade": {"samples": 2, "agreement_fraction": 0.6, "number": True},
    "vote": {"samples": 2, "number": True},
    "best_of": {"samples": 2, "regex": "never (said)"},
    "revise": {"revisions": 1, "regex": "never (said)"},
    "forest": {"samples": 2, "number": True},
}
TIER_COUNTS = {"direct": 1, "cascade": 2, "vote": 1, "best_of": 1, "revise": 1, "forest": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A workload of the plan; `label` None: the plan's default holds."""

    name: str
    label: Stated | None
    strategy: str
    tiers: tuple[str, ...]
    fallback: tuple[str, ...]
    detected: Stated | None = None
    captures: bool = False
    spill_after_s: float | None = None
    style: int = 0

    @property
    def match(self) -> dict[str, Any]:
        """What recognises it, besides its name."""
        return {
            "w0": {"models": ["gpt-*"]},
            "w1": {"metadata": {"team": "one"}},
            "w2": {"headers": {"x-app": "two"}},
        }.get(self.name, {"models": [f"{self.name}-model"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A plan: what the gateway is given as TOML, and what is true of it.

    Calls of the tiers in `hedging` get second ones soon, at `hedges_to`; where that is empty, at owned tiers. Those in
    `narrow` serve one call at a time.
    """

    default: Stated | None
    works: tuple[Work, ...]
    spots: tuple[Spot, ...] = SPOTS
    detected: Stated | None = None
    hedging: frozenset[str] = frozenset()
    hedges_to: tuple[str, ...] = ()
    narrow: frozenset[str] = frozenset()
    style: int = 0
    by_name: dict[str, Spot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find spots by name."""
        object.__setattr__(self, "by_name", {spot.name: spot for spot in self.spots})

    def work(self, name: str) -> Work | None:
        """Return a workload, or None."""
        return next((work for work in self.works if work.name == name), None)

    def label_of(self, work: Work | None) -> Stated:
        """Return what the plan itself permits."""
        if work is not None and work.label is not None:
            return work.label
        return HERE if self.default is None else self.default

    def detected_in(self, work: Work | None) -> list[Stated]:
        """Return where a request of this workload may go that holds what is looked for."""
        stated = [self.detected, None if work is None else work.detected]
        return [label for label in stated if label is not None]

    def to_toml(self) -> str:
        """Return the plan as text."""
        lines = ['schema = "ownward.plan/1"', 'name = "sovereign"']
        if self.default is not None:
            lines.append(f"default_label = {json.dumps(text_of(self.default, style=self.style))}")
        lines += _detection(self.detected, self.style)
        for spot in self.spots:
            lines += [f"[tiers.{spot.name}]", f'kind = "{spot.kind}"', f'model = "{spot.name}-model"']
            lines += [f'{key} = "{value}"' for key in ("engine", "region", "provider") if (value := getattr(spot, key))]
            if spot.name in self.narrow:
                lines.append("max_concurrency = 1")
            if spot.name in self.hedging:
                to = json.dumps(self.hedges_to)
                lines.append(f"hedge = {{ after_s = {HEDGE_AFTER_S}, max_fraction = 0.99, to = {to} }}")
            lines += [f"[[tiers.{spot.name}.upstreams]]", f'name = "{spot.name}"', f'url = "{spot.url}"']
            lines += [f'api_key_env = "{spot.name.upper()}_KEY"'] if spot.kind == "rented" else []
            lines += [f'dialect = "{spot.dialect}"', "connect_timeout_s = 5"]
        for work in self.works:
            lines.append(f"[workloads.{work.name}]")
            if work.label is not None:
                lines.append(f"label = {json.dumps(text_of(work.label, style=work.style))}")
            lines += _detection(work.detected, work.style)
            if work.captures:
                lines.append("capture = { sample_fraction = 1, retention_s = 3600 }")
            if work.spill_after_s is not None:
                lines.append(f"spill_after_s = {work.spill_after_s}")
            lines.append(f"fallback = {json.dumps(work.fallback)}")
            strategy = {"kind": work.strategy, "tiers": list(work.tiers)}
            for name, table in (("match", work.match), ("strategy", strategy)):
                lines.append(f"{name} = {_inline(table)}")
            options = _OPTIONS[work.strategy]
            if options:
                lines[-1] = lines[-1][:-1] + f", options = {_inline(options)}}}"
        return "\n".join(lines) + "\n"


def _detection(label: Stated | None, style: int) -> list[str]:
    if label is None:
        return []
    return ['detect = ["email"]', f"detected_label = {json.dumps(text_of(label, style=style))}"]


def secrets_of(book: Book) -> dict[str, str]:
    """Return the keys that the plan's variables hold."""
    return {f"{spot.name.upper()}_KEY": f"sk-SECRET-OF-{spot.name}" for spot in book.spots if spot.kind == "rented"}


def _inline(table: dict[str, Any]) -> str:
    parts = []
    for key, value in table.items():
        shown = _inline(value) if isinstance(value, dict) else json.dumps(value)
        parts.append(f"{key} = {shown}")
    return "{ " + ", ".join(parts) + " }"
