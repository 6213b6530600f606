"""Where requests are served: tiers, owned and rented, and the addresses of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ownward.plan._budgets import Budget
from ownward.plan._hedging import Hedge
from ownward.plan._problems import (
    Figures,
    Option,
    Problem,
    figure_problems,
    find_repeated,
    freeze,
    looks_like_secret,
    name_problems,
    positive_problems,
    refuse,
    shown,
    suggest,
    text_problems,
    usd_problems,
)
from ownward.policy import Origin, Place, is_forbidden_literal, is_loopback_address, is_private_address
from ownward.pricing import Price

TierKind = Literal["owned", "rented"]
EngineKind = Literal["embedded", "llama-server", "vllm", "sglang", "adopted"]
Dialect = Literal["openai", "anthropic"]
MessagesAs = Literal["chat", "responses"]
Balance = Literal["prefix", "least_busy"]

CAPABILITIES = frozenset(
    {
        "audio",
        "chat",
        "completions",
        "continuation",
        "count_tokens",
        "embeddings",
        "json_mode",
        "json_schema",
        "logprobs",
        "messages",
        "multiple_choices",
        "reasoning",
        "rerank",
        "responses",
        "streaming",
        "tools",
        "vision",
    }
)
"""What a tier may state that it can do; a tier that states nothing is not filtered by capability."""

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9._~%!$&'()*+,;=:@-]*)*)"
)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1024}")
_CREDENTIAL_HEADER = re.compile(r"auth|cookie|passw|secret|credential|token|(?:^|-)(?:api-?)?key(?:$|-)", re.IGNORECASE)
_TRANSPORT_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
_OPTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAX_PORT = 65535
_WAY_FILES = ("ca_file", "client_cert_file", "client_key_file")
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f]")


def is_variable_name(name: str) -> bool:
    """Tell whether `name` can be an environment variable that holds a secret: capitals, digits and `_`."""
    return _VARIABLE.fullmatch(name) is not None and not looks_like_secret(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One address of a tier.

    `url` is what clients call the base URL, with or without a path; None where
    `ownward serve` starts the engine itself. The key is read from the
    environment variable named by `api_key_env`, never from the plan.
    `first_byte_timeout_s` counts from the request's last byte sent to the answer's
    first; `stall_timeout_s` is the longest gap between two bytes.

    `messages_as` says as what an upstream that speaks OpenAI's dialect alone is asked where
    a client sends Anthropic's messages; None: as responses where it is OpenAI's own
    service, else as chat completions.

    `proxy_url` is an HTTP proxy without credentials in it; where it has some, its
    URL is read from the environment variable `proxy_url_env`. `ca_file` holds the
    authorities (PEM) to trust instead of the system's; `client_cert_file` and
    `client_key_file` the certificate shown to the upstream and its key.
    """

    name: str
    url: str | None = None
    dialect: Dialect = "openai"
    messages_as: MessagesAs | None = None
    api_key_env: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float = 300.0
    stall_timeout_s: float = 120.0
    proxy_url: str | None = None
    proxy_url_env: str | None = None
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None

    def __post_init__(self) -> None:
        """Freeze the headers; refuse what cannot be an address, and secrets."""
        object.__setattr__(self, "headers", freeze({name.lower(): value for name, value in self.headers.items()}))
        refuse(f"upstream {shown(self.name)}", _upstream_problems(self))

    @property
    def origin(self) -> str | None:
        """Scheme, host and port of the URL, such as `https://api.example.com`; None where serve starts it."""
        return None if self.url is None else str(Origin.parse(self.url))

    @property
    def is_local(self) -> bool:
        """Whether its address is this machine: left out, a loopback address, or `localhost`.

        Other host names are not local: where they lead can change. Nor is what lies behind a
        proxy: where that connects to cannot be seen from here.
        """
        return self._is_at(is_loopback_address)

    @property
    def is_on_site(self) -> bool:
        """Whether its address is this machine or one of a private network (RFC 1918, RFC 4193)."""
        return self._is_at(is_private_address)

    def _is_at(self, is_near: Callable[[str], bool]) -> bool:
        if self.url is None:
            return True
        if self.has_proxy:
            return False
        host = Origin.parse(self.url).host
        return host == "localhost" or is_near(host)

    @property
    def has_proxy(self) -> bool:
        """Whether it is reached through a proxy."""
        return self.proxy_url is not None or self.proxy_url_env is not None

    def compute_target(self, target: str) -> str:
        """Return the path to ask this upstream for, where a client asked us for `target` (`/v1/…`).

        A URL with a path is a base as SDKs mean it: OpenAI's includes the
        version and replaces our `/v1`, Anthropic's does not.

        >>> Upstream(name="a", url="https://openrouter.ai/api/v1").compute_target("/v1/chat/completions")
        '/api/v1/chat/completions'
        >>> Upstream(name="a", url="https://api.example.com").compute_target("/v1/chat/completions")
        '/v1/chat/completions'
        """
        match = _URL.fullmatch(self.url) if self.url else None
        base = match["path"].rstrip("/") if match else ""
        if base and self.dialect == "openai":
            return base + target.removeprefix("/v1")
        return base.removesuffix("/v1") + target


def _upstream_problems(upstream: Upstream) -> Iterable[Problem]:
    yield from name_problems("name", upstream.name)
    if upstream.url is not None:
        yield from _url_problems(upstream.url)
    if upstream.dialect not in get_args(Dialect):
        yield Problem("dialect", f"is {shown(upstream.dialect)}", suggest(upstream.dialect, get_args(Dialect)))
    if upstream.messages_as is not None:
        yield from _messages_as_problems(upstream)
    if upstream.api_key_env is not None and not is_variable_name(upstream.api_key_env):
        # The value is not shown: it may be the key itself.
        allowed = 'Write the variable\'s name in capitals: api_key_env = "OPENAI_API_KEY"'
        yield Problem("api_key_env", "is not the name of an environment variable", allowed)
    for name, value in upstream.headers.items():
        yield from _header_problems(name, value)
    yield from positive_problems("connect_timeout_s", upstream.connect_timeout_s)
    yield from positive_problems("first_byte_timeout_s", upstream.first_byte_timeout_s)
    yield from positive_problems("stall_timeout_s", upstream.stall_timeout_s)
    yield from _way_problems(upstream)


def _messages_as_problems(upstream: Upstream) -> Iterable[Problem]:
    if upstream.messages_as not in get_args(MessagesAs):
        allowed = suggest(upstream.messages_as or "", get_args(MessagesAs))
        yield Problem("messages_as", f"is {shown(upstream.messages_as)}", allowed)
    elif upstream.dialect == "anthropic":
        allowed = "Leave it out: messages go there as they are"
        yield Problem("messages_as", "is stated for an upstream that speaks anthropic", allowed)


def _way_problems(upstream: Upstream) -> Iterable[Problem]:
    """Yield what is wrong with a proxy and with the files of TLS."""
    files = [(key, getattr(upstream, key)) for key in _WAY_FILES if getattr(upstream, key) is not None]
    for key, path in files:
        if not path.startswith("/") or _UNPRINTED.search(path):
            yield Problem(key, f"is {shown(path)}", f'Write the whole path: {key} = "/etc/ownward/{key[:-5]}.pem"')
    if upstream.client_key_file is not None and upstream.client_cert_file is None:
        yield Problem("client_key_file", "is stated without its certificate", "State client_cert_file as well")
    if upstream.proxy_url is not None:
        yield from _url_problems(upstream.proxy_url, key="proxy_url", variable="proxy_url_env")
    if upstream.proxy_url_env is not None and not is_variable_name(upstream.proxy_url_env):
        # The value is not shown: it may be the URL itself, with a password.
        allowed = 'Write the variable\'s name in capitals: proxy_url_env = "COMPANY_PROXY_URL"'
        yield Problem("proxy_url_env", "is not the name of an environment variable", allowed)
    if upstream.proxy_url is not None and upstream.proxy_url_env is not None:
        yield Problem("proxy_url_env", "is stated beside proxy_url", "State one of the two")
    stated = [key for key in ("proxy_url", "proxy_url_env", *_WAY_FILES) if getattr(upstream, key) is not None]
    if upstream.url is None:
        for key in stated:
            yield Problem(key, "is stated for an engine that serve starts", "Leave it out: it is on this machine")
    elif upstream.url.startswith("http:"):
        for key, _ in files:
            yield Problem(key, "is stated for a url without TLS", "Write the url with https://, or leave it out")
    if upstream.client_cert_file is not None and (upstream.proxy_url or "").startswith("https:"):
        allowed = "Write the proxy's url with http://, or leave it out: TLS to the upstream goes through both"
        yield Problem("client_cert_file", "would be shown to the proxy too, which is spoken to over TLS", allowed)


def _url_problems(url: str, *, key: str = "url", variable: str = "api_key_env") -> Iterable[Problem]:
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if "@" in authority:
        secret = "key" if key == "url" else "whole url"
        allowed = f"Take them out and name the variable that holds the {secret} in {variable}"
        yield Problem(key, "has credentials in it", allowed)
        return
    match = _URL.fullmatch(url)
    if match is None or (key == "proxy_url" and match["path"] not in {"", "/"}):
        why = "has a query or fragment" if "?" in url or "#" in url else f"is {shown(url)}"
        allowed = 'Write http or https, a host and at most a path: "https://api.example.com/v1"'
        if key == "proxy_url":
            allowed = 'Write http or https, a host and a port: "http://proxy.example:3128"'
        yield Problem(key, why, allowed)
    elif is_forbidden_literal(match["host"].strip("[]")):
        allowed = "Loopback, private and public addresses: not link-local ones or a cloud's metadata service"
        yield Problem(key, f"is at {match['host']}, where no upstream may be", allowed)
    elif match["port"] and not 0 < int(match["port"]) <= _MAX_PORT:
        yield Problem(key, f"has the port {match['port']}", "Ports run from 1 to 65535")


def _header_problems(name: str, value: str) -> Iterable[Problem]:
    key = f"headers.{name}"
    if not _HEADER_NAME.fullmatch(name):
        yield Problem(key, "is not a header name", "Use letters, digits and -")
    elif name in _TRANSPORT_HEADERS:
        yield Problem(key, "is set by the connection itself", "Leave it out")
    elif _CREDENTIAL_HEADER.search(name) or looks_like_secret(value):
        # Neither is shown with its value.
        allowed = 'Name the variable that holds it: api_key_env = "MY_PROVIDER_API_KEY"'
        yield Problem(key, "looks like a secret, and the plan holds none", allowed)
    elif not _HEADER_VALUE.fullmatch(value):
        yield Problem(key, "has a value that no header can carry", "Use up to 1024 printable ASCII characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A named place that serves requests: a deployment that is owned, or an API model that is rented.

    `price` is what one request is charged: the list price of a rented tier, the
    marginal cost (energy) of an owned one. `loaded_price` is an owned tier's
    fully loaded cost. Without a price the charge is unknown, never zero.
    `capabilities` empty means not stated. Of several upstreams a request goes to the one where
    `balance` leads: `prefix`, which an owned tier has unless it states another, or `least_busy`.
    `cache_tokens` is how many tokens the cache of each of its engines holds. `budget` holds all
    calls to the tier together. `hedge` says when a call that is late gets a second one.
    """

    name: str
    kind: TierKind
    model: str
    variant: str | None = None
    engine: EngineKind | None = None
    machine: str | None = None
    provider: str | None = None
    region: str | None = None
    max_context_tokens: int | None = None
    max_output_tokens: int | None = None
    max_concurrency: int | None = None
    balance: Balance | None = None
    cache_tokens: int | None = None
    budget: Budget | None = None
    hedge: Hedge | None = None
    capabilities: frozenset[str] = frozenset()
    price: Price | None = None
    loaded_price: Price | None = None
    upstreams: tuple[Upstream, ...] = ()
    engine_options: Mapping[str, Option] = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze what is nested; give an engine that serve starts its one address; refuse what cannot serve."""
        object.__setattr__(self, "capabilities", frozenset(self.capabilities))
        object.__setattr__(self, "engine_options", freeze(self.engine_options))
        object.__setattr__(self, "figures", freeze(self.figures))
        if not self.upstreams and self.kind == "owned" and self.engine not in {None, "adopted"}:
            object.__setattr__(self, "upstreams", (Upstream(name=self.name),))
        refuse(f"tier {shown(self.name)}", _tier_problems(self))

    @property
    def is_owned(self) -> bool:
        """Whether it runs on hardware of one's own."""
        return self.kind == "owned"

    @property
    def balances_by_prefix(self) -> bool:
        """Whether a request goes to the upstream that has likely seen the beginning of its prompt."""
        return (self.balance or ("prefix" if self.is_owned else "least_busy")) == "prefix"

    @property
    def place(self) -> Place:
        """Where its data goes. On this machine, or on site, only if it is owned and every address of it is."""
        return Place(
            is_local=self.is_owned and all(upstream.is_local for upstream in self.upstreams),
            is_on_site=self.is_owned and all(upstream.is_on_site for upstream in self.upstreams),
            region=self.region,
            provider=self.provider,
        )


def _tier_problems(tier: Tier) -> Iterable[Problem]:
    yield from name_problems("name", tier.name)
    yield from text_problems("model", tier.model)
    for key in ("variant", "machine", "provider", "region"):
        yield from text_problems(key, getattr(tier, key))
    for key in ("max_context_tokens", "max_output_tokens", "max_concurrency", "cache_tokens"):
        yield from positive_problems(key, getattr(tier, key))
    if tier.balance is not None and tier.balance not in get_args(Balance):
        yield Problem("balance", f"is {shown(tier.balance)}", suggest(tier.balance, get_args(Balance)))
    yield from _kind_problems(tier)
    yield from _unserved_problems(tier)
    for capability in sorted(tier.capabilities - CAPABILITIES):
        allowed = suggest(capability, CAPABILITIES)
        yield Problem("capabilities", f"names {shown(capability)}, which is not a capability", allowed)
    for key in ("price", "loaded_price"):
        price: Price | None = getattr(tier, key)
        if price is not None:
            for rate in ("input", "output", "cached_input", "cache_write"):
                yield from usd_problems(f"{key}.{rate}_usd_per_mtok", getattr(price, f"{rate}_usd_per_mtok"))
    for name, value in tier.engine_options.items():
        if not _OPTION_NAME.fullmatch(name):
            yield Problem(f"engine_options.{name}", "is not an option name", "Use lower-case letters, digits and _")
        texts = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
        if any(looks_like_secret(text) for text in texts):
            yield Problem(f"engine_options.{name}", "looks like a secret, and the plan holds none", "Leave it out")
        for text in texts:
            yield from text_problems(f"engine_options.{name}", text, may_be_empty=True)
    yield from figure_problems(tier.figures)


def _unserved_problems(tier: Tier) -> Iterable[Problem]:
    """Yield the upstreams that are to be asked for what the tier's capabilities are stated without."""
    for index, upstream in enumerate(tier.upstreams):
        wanted = upstream.messages_as
        if wanted is not None and tier.capabilities and wanted not in tier.capabilities:
            allowed = f"Add {wanted} to capabilities, or leave messages_as out"
            why = f"is {shown(wanted)}, and the tier's capabilities are stated without it"
            yield Problem(f"upstreams[{index}].messages_as", why, allowed)


def _kind_problems(tier: Tier) -> Iterable[Problem]:
    if tier.kind not in get_args(TierKind):
        yield Problem("kind", f"is {shown(tier.kind)}", 'Write "owned" or "rented"')
        return
    if tier.engine is not None and tier.engine not in get_args(EngineKind):
        yield Problem("engine", f"is {shown(tier.engine)}", suggest(tier.engine, get_args(EngineKind)))
        return
    for index, name in find_repeated(upstream.name for upstream in tier.upstreams):
        yield Problem(f"upstreams[{index}].name", f"is {shown(name)} for a second time", "Give each its own name")
    if not tier.upstreams:
        yield Problem("upstreams", "is empty", "Write [[tiers.NAME.upstreams]] with name and url")
    needs_url = tier.kind == "rented" or tier.engine in {None, "adopted"}
    if needs_url:
        for index, upstream in enumerate(tier.upstreams):
            if upstream.url is None:
                allowed = 'Write url = "https://…"; only an engine that serve starts may leave it out'
                yield Problem(f"upstreams[{index}].url", "is missing", allowed)
    if tier.kind == "rented":
        for key, value in (("engine", tier.engine), ("loaded_price", tier.loaded_price)):
            if value is not None:
                yield Problem(key, "is stated for a rented tier", 'Leave it out, or write kind = "owned"')
        if tier.engine_options:
            yield Problem("engine_options", "is stated for a rented tier", "Leave it out")
