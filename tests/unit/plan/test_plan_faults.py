"""What is refused in a plan.toml: each fault with its line, its key, and what would be right; all at once."""

from __future__ import annotations

import pytest

from ownward import ledger
from ownward.core import ConfigError
from ownward.plan import MAX_FILE_BYTES, loads, read_toml_bytes

GOOD = """\
schema = "ownward.plan/1"
name = "support"
baseline = "api"

[tiers.api]
kind = "rented"
model = "gpt-5-mini"
provider = "openai"
upstreams = [{ name = "a", url = "https://api.openai.com/v1", api_key_env = "OPENAI_API_KEY" }]

[tiers.own]
kind = "owned"
model = "qwen3-8b"
engine = "embedded"

[workloads.chat]
label = "any"
floor_fraction = 0.98
confidence_fraction = 0.95
fallback = ["api"]
strategy = { kind = "direct", tiers = ["own"] }
"""


def faults_of(text):
    with pytest.raises(ConfigError) as caught:
        loads(text, file="p.toml")
    return caught.value.faults


def only_fault(text):
    (fault,) = faults_of(text)
    return fault


def test_the_good_plan_is_good():
    plan = loads(GOOD)
    assert plan.workloads["chat"].strategy.tiers == ("own",)
    assert plan.tiers["own"].upstreams[0].url is None


# Each case: what is replaced in GOOD, by what, and the one fault that follows: line, key, words of it.
CASES = {
    "unknown key": ("baseline =", "baselin =", 3, "baselin", ["is not a known key", '"baseline"']),
    "unknown tier key": ('provider = "openai"', 'regoin = "eu"', 8, "tiers.api.regoin", ['"region"']),
    "an address a table too high": ('provider = "openai"', 'provider = "openai"\nurl = "https://a.b"', 9,
                                    "tiers.api.url", ["is not a key of this table",
                                                     "Write it under [[tiers.api.upstreams]]"]),
    "tiers a table too high": ('label = "any"', 'label = "any"\ntiers = ["own"]', 18, "workloads.chat.tiers",
                               ["Write it under [workloads.chat.strategy]"]),
    "models a table too high": ('label = "any"', 'label = "any"\nmodels = ["x"]', 18, "workloads.chat.models",
                                ["Write it under [workloads.chat.match]"]),
    "unknown nested key": ('"own"] }', '"own"], max_cals = 3 }', 21, "workloads.chat.strategy.max_cals", ["max_calls"]),
    "wrong type": ('model = "qwen3-8b"', "model = 8", 13, "tiers.own.model", ["is 8, not a text", 'model = "8"']),
    "table for text": ('name = "support"', "name = { a = 1 }", 2, "name", ["is a table, not a text"]),
    "text for a table": ('strategy = { kind = "direct", tiers = ["own"] }', 'strategy = "direct"', 21,
                         "workloads.chat.strategy", ['is "direct", not a table']),
    "baseline of no tier": ('baseline = "api"', 'baseline = "apy"', 3, "baseline", ['"apy"', '"api"']),
    "a workload's baseline of no tier": ('fallback = ["api"]', 'baseline = "apy"', 20, "workloads.chat.baseline",
                                         ['"apy"', '"api"']),
    "strategy of no tier": ('tiers = ["own"]', 'tiers = ["owm"]', 21, "workloads.chat.strategy.tiers", ['"own"']),
    "fallback of no tier": ('fallback = ["api"]', 'fallback = ["pai"]', 20, "workloads.chat.fallback", ['"api"']),
    "fallback leads back": ('fallback = ["api"]', 'fallback = ["own"]', 20, "workloads.chat.fallback", ["leads back"]),
    "fallback twice": ('["api"]', '["api", "api"]', 20, "workloads.chat.fallback", ["twice"]),
    "no tiers": ('tiers = ["own"]', "tiers = []", 21, "workloads.chat.strategy.tiers", ["names 0", "exactly 1"]),
    "two for direct": ('tiers = ["own"]', 'tiers = ["own", "api"]\n', 20, None, ["p.toml"]),
    "ftp": ("https://api.openai.com/v1", "ftp://api.openai.com", 9, "tiers.api.upstreams[0].url", ["http or https"]),
    "query": ("/v1", "/v1?key=abc", 9, "tiers.api.upstreams[0].url", ["has a query"]),
    "port": ("api.openai.com/v1", "api.openai.com:99999", 9, "tiers.api.upstreams[0].url", ["99999", "65535"]),
    "floor": ("0.98", "98", 18, "workloads.chat.floor_fraction", ["98", "0.95, not 95"]),
    "confidence of one": ("= 0.95", "= 1", 19, "workloads.chat.confidence_fraction", ["between 0 and 1"]),
    "not a number": ("= 0.95", "= nan", 19, "workloads.chat.confidence_fraction", ["not a finite number"]),
    "label": ('label = "any"', 'label = "any thing"', 17, "workloads.chat.label", ["names no place"]),
    "label of a wrong type": ('label = "any"', "label = 3", 17, "workloads.chat.label", ["which is not a label"]),
    "engine": ('"embedded"', '"embeded"', 14, "tiers.own.engine", ['is "embeded"', '"embedded"']),
    "adopted without url": ('"embedded"', '"adopted"', 11, "tiers.own.upstreams", ["is empty"]),
    "kind": ('kind = "owned"', 'kind = "rentd"', 12, "tiers.own.kind", ['"rented"']),
    "rented with an engine": ('provider = "openai"', 'engine = "vllm"', 8, "tiers.api.engine", ["rented tier"]),
    "tokens as text": ('engine = "embedded"', 'engine = "embedded"\nmax_context_tokens = "8k"', 15,
                       "tiers.own.max_context_tokens", ['is "8k", not a whole number', "= 8192"]),
    "capability": ('engine = "embedded"', 'engine = "embedded"\ncapabilities = ["tols"]', 15,
                   "tiers.own.capabilities", ['"tols"', '"tools"']),
    "zero concurrency": ('engine = "embedded"', 'engine = "embedded"\nmax_concurrency = 0', 15,
                         "tiers.own.max_concurrency", ["is 0", "above zero"]),
    "no name": ('name = "support"\n', "", 1, "name", ["is missing", 'name = "support"']),
    "no schema": ('schema = "ownward.plan/1"', "", 1, "schema", ["is missing"]),
    "other schema": ("ownward.plan/1", "ownward.config/1", 1, "schema", ["not a plan's"]),
    "naive time": ('name = "support"', 'name = "support"\ncreated_at = 2026-11-21T03:00:00', 3, "created_at",
                   ["not a time with its zone"]),
    "syntax": ("[tiers.own]", "[tiers.own", 11, None, ["is not TOML", "column 11"]),
    "twice": ("[tiers.own]", "[tiers.api]", 11, None, ["is not TOML"]),
    "name of a tier": ("[tiers.own]", '[tiers."o wn"]\n', 11, None, ["not a name"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_one_fault_names_line_key_and_remedy(case):
    """One mistake in a good plan is told once, where it stands."""
    old, new, line, key, words = case
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    faults = faults_of(text)
    if key is None:
        fault = faults[0]
    else:
        (fault,) = faults
        assert (fault.line, fault.key) == (line, key)
    for word in words:
        assert word in str(fault), str(fault)


# Each case: a hedge of the tier `own`, the key of its fault, words of it.
HEDGES = {
    "no delay": ("", "after_s", ["is missing", 'after_s = "400ms"', "after_percentile = 95"]),
    "a delay of nothing": ("after_s = 0", "after_s", ["is 0", "above zero"]),
    "a percentile of most calls": ("after_percentile = 5", "after_percentile", ["is 5", "50 to 99"]),
    "a percentile as a fraction": ("after_percentile = 0.95", "after_percentile", ["is 0.95", "such as 95"]),
    "few observations": ("after_percentile = 95, min_observations = 3", "min_observations", ["is 3", "20 to 1000"]),
    "observations of no use": (
        'after_s = "1s", min_observations = 50',
        "min_observations",
        ["without after_percentile", "Leave it out"],
    ),
    "every call": ("after_s = 1, max_fraction = 1", "max_fraction", ["is 1", "between 0 and 1"]),
    "no such tier": ('after_s = 1, to = ["apj"]', "to", ['"apj"', '"api"']),
    "one tier twice": ('after_s = 1, to = ["api", "api"]', "to[1]", ["twice", "Name each tier once"]),
    "a wrong word": ("after_s = 1, max_share = 0.1", "max_share", ["not a known key", "max_fraction"]),
}


@pytest.mark.parametrize("case", HEDGES.values(), ids=HEDGES)
def test_a_hedge_that_cannot_be_is_refused_where_it_stands(case):
    hedge, key, words = case
    fault = only_fault(GOOD.replace('engine = "embedded"', f'engine = "embedded"\nhedge = {{ {hedge} }}'))
    assert (fault.line, fault.key) == (15, f"tiers.own.hedge.{key}")
    for word in words:
        assert word in str(fault)


def test_every_fault_is_told_in_one_reading():
    """Faults of different tables and kinds come together, in the order of their lines."""
    text = (
        GOOD.replace("baseline =", "baselin =")
        .replace('model = "gpt-5-mini"', "model = 5")
        .replace("https://", "gopher://")
        .replace('"embedded"', '"embeded"')
        .replace("0.98", "98")
        .replace('tiers = ["own"]', 'tiers = ["owm"]')
    )
    faults = faults_of(text)
    assert [fault.line for fault in faults] == [3, 7, 9, 14, 18, 21]
    assert str(ConfigError(faults)).count("\n") == 5


def test_a_broken_tier_does_not_make_its_users_faulty():
    """What refers to a tier that is written, but wrong, is not a fault as well."""
    assert only_fault(GOOD.replace('model = "qwen3-8b"', "model = 8")).key == "tiers.own.model"


def test_a_newer_schema_is_refused_alone_with_what_to_do():
    """Keys of a later schema are not told as unknown."""
    with pytest.raises(ConfigError) as caught:
        loads(GOOD.replace("plan/1", "plan/2") + "\n[future]\nx = 1\n")
    assert len(caught.value.faults) == 1
    assert "pip install --upgrade ownward" in str(caught.value)


SECRETS = {
    "authorization header": 'headers = { Authorization = "whatever" }',
    "x-api-key header": 'headers = { x-api-key = "whatever" }',
    "key under another name": 'headers = { x-team = "sk-proj-abcdefghijklmnopqrstuv0123" }',
    "bearer": 'headers = { x-team = "Bearer abcdefghijkl" }',
    "key for a variable": 'api_key_env = "sk-proj-abcdefghijklmnopqrstuv0123"',
    "key as a key": 'api_key = "sk-proj-abcdefghijklmnopqrstuv0123"',
    "url": 'url = "https://me:sk-proj-abcdefghijklmnopqrstuv0123@api.example.com"',
}


@pytest.mark.parametrize("line", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_refused_and_never_shown(line):
    """A literal key is a fault that points to api_key_env and does not repeat the key."""
    url = "" if line.startswith("url") else 'url = "https://a.example"\n'
    text = (
        'schema = "ownward.plan/1"\nname = "x"\n[tiers.a]\nkind = "rented"\nmodel = "m"\n'
        f'[[tiers.a.upstreams]]\nname = "a"\n{url}{line}\n'
    )
    told = str(ConfigError(faults_of(text)))
    assert "api_key_env" in told
    assert "abcdefghijkl" not in told
    assert "whatever" not in told


def test_a_key_of_our_own_in_the_place_of_its_id_is_refused_and_never_shown(tmp_path):
    with ledger.open(tmp_path / "ledger.db") as book:
        secret = book.create_key("ben", {})
        (key,) = book.list_keys()
    text = GOOD + 'match = { keys = ["PLACE"] }'
    assert loads(text.replace("PLACE", key.key_id)).workloads["chat"].match.keys == (key.key_id,)
    told = str(ConfigError(faults_of(text.replace("PLACE", secret))))
    assert "ownward keys list" in told
    assert secret not in told
    assert secret[:12] not in told


def strategy(text):
    return GOOD.replace('strategy = { kind = "direct", tiers = ["own"] }', f"strategy = {{ {text} }}").replace(
        'fallback = ["api"]\n', ""
    )


VOTE = 'kind = "vote", tiers = ["own"], '
CASCADE = 'kind = "cascade", tiers = ["own", "api"], '
STRATEGIES = {
    "option of another kind": ('kind = "direct", tiers = ["own"], options = { samples = 3 }', "not an option"),
    "mistyped option": (VOTE + "options = { sampels = 3, number = true }", '"samples"'),
    "mistyped judge": (VOTE + 'options = { samples = 3, lables = ["a"] }', '"labels"'),
    "vote of one": (VOTE + "options = { samples = 1, number = true }", "from 2 to 64"),
    "vote without samples": (VOTE + "options = { number = true }", "options.samples is missing"),
    "vote without a judge": (VOTE + "options = { samples = 3 }", "names no judge"),
    "two judges": (VOTE + 'options = { samples = 3, number = true, regex = "a" }', "second judge"),
    "judge that is off": (VOTE + "options = { samples = 3, number = false }", "Write true"),
    "regex that does not compile": (VOTE + 'options = { samples = 3, regex = "(" }', "does not compile"),
    "schema that is none": (VOTE + 'options = { samples = 3, json_schema = "[]" }', "not a JSON schema"),
    "no labels": (VOTE + "options = { samples = 3, labels = [] }", "labels"),
    "label twice": (VOTE + 'options = { samples = 3, labels = ["a", "a"] }', "twice"),
    "cascade of one": ('kind = "cascade", tiers = ["own"], options = { number = true }', "at least 2"),
    "samples without agreement": (CASCADE + "options = { samples = 3, number = true }", "agreement_fraction"),
    "share above one": (CASCADE + "options = { samples = 3, agreement_fraction = 60, number = true }", "0.95, not 95"),
    "vote of two tiers": ('kind = "vote", tiers = ["own", "api"], options = { samples = 2, number = true }',
                          "exactly 1"),
    "same tier twice": ('kind = "forest", tiers = ["own", "own"], options = { samples = 2, number = true }', "twice"),
    "cap below samples": (VOTE + "max_calls = 2, options = { samples = 3, number = true }", "samples = 3"),
    "cap of zero": ('kind = "direct", tiers = ["own"], max_calls = 0', "is 0"),
    "negative money": ('kind = "direct", tiers = ["own"], max_usd = -1', "is -1"),
    "unknown kind": ('kind = "casade", tiers = ["own"]', '"cascade"'),
}  # fmt: skip


@pytest.mark.parametrize("case", STRATEGIES.values(), ids=STRATEGIES)
def test_strategies_are_refused_by_kind(case):
    """Each kind takes its own options and number of tiers."""
    text, words = case
    (fault,) = faults_of(strategy(text))
    assert fault.line == 20
    assert words in str(fault)


PRICE = "[tiers.own.price]\ninput_usd_per_mtok = 0.1\noutput_usd_per_mtok = 0.2\n"
BASIS = 'basis = "measured"\nsource = "bench"\nchecked_on = 2026-11-01\n'


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (PRICE + BASIS.replace('basis = "measured"\n', ""), "basis"),
        (PRICE + BASIS.replace('source = "bench"\n', ""), "source"),
        (PRICE + BASIS.replace("measured", "guessed"), "basis"),
        (PRICE.replace("0.1", "-0.1") + BASIS, "input_usd_per_mtok"),
        (PRICE.replace("0.1", "1e400") + BASIS, "input_usd_per_mtok"),
        (PRICE.replace("0.1", "inf") + BASIS, "input_usd_per_mtok"),
        (PRICE.replace("0.1", '"cheap"') + BASIS, "input_usd_per_mtok"),
        (PRICE.replace("output_usd_per_mtok = 0.2\n", "") + BASIS, "output_usd_per_mtok"),
    ],
)
def test_a_price_is_exact_and_has_its_source(text, key):
    """A price that is negative, endless, or from nowhere is a fault."""
    fault = only_fault(GOOD + text)
    assert fault.key == f"tiers.own.price.{key}"


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ("x = 3", "without its basis and source"),
        ('x = { value = 3, basis = "measured", checked_on = 2026-11-01 }', "source is missing"),
        ('x = { value = 3, basis = "measurd", source = "s", checked_on = 2026-11-01 }', '"measured"'),
        ('x = { value = 3, basis = "measured", source = " ", checked_on = 2026-11-01 }', "no source"),
        ('x = { value = 3, basis = "measured", source = "s", checked_on = "soon" }', "not a date"),
        ('usd = { value = "much", basis = "measured", source = "s", checked_on = 2026-11-01 }', "not dollars"),
    ],
)
def test_a_figure_says_where_it_is_from(figure, words):
    """A derived figure without basis and source is a fault."""
    fault = only_fault(f"{GOOD}[figures]\n{figure}\n")
    assert fault.line == 23
    assert words in str(fault)


def test_upstreams_of_one_name_are_refused():
    """Two addresses of one tier have two names."""
    fault = only_fault(GOOD.replace("upstreams = [", 'upstreams = [{ name = "a", url = "https://b.example" }, '))
    assert fault.key == "tiers.api.upstreams[1].name"


def test_two_workloads_that_match_alike_are_refused():
    """One of them would never be used."""
    fault = only_fault(GOOD + '[workloads.other]\nstrategy = { tiers = ["own"] }\n')
    assert "never used" in str(fault)


HOSTILE = {
    "NUL": 'schema = "ownward.plan/1"\nname = "a\x00b"\n',
    "escaped NUL": GOOD.replace("qwen3-8b", "qwen\\u0000"),
    "deep arrays": "a = " + "[" * 20_000,
    "deep tables": "a = " + "{a=" * 5_000,
    "deep dots": "a" + ".a" * 3_000 + " = 1",
    "very many dots": "a." * 200_000 + "a = 1",
    "very many dots in a header": "[" + "a." * 200_000 + "a]",
    "very many quoted dots inside": "x = { " + '"a" . ' * 100_000 + "a = 1 }",
    "very many unknown keys": "".join(f"k{i} = 1\n" for i in range(50_000)),
    "very many references": f"{GOOD}[workloads.z]\nstrategy = {{ tiers = {[str(i) for i in range(50_000)]} }}",
    "long number": "a = " + "9" * 10_000,
    "huge exponent": GOOD + PRICE.replace("0.1", "1e999999999") + BASIS,
    "tiny exponent": GOOD + PRICE.replace("0.1", "1e-999999999") + BASIS,
    "right to left": GOOD.replace("[tiers.own]", '[tiers."\u202eown"]'),
    "surrogate": GOOD + "# \udc80\n\x01",
    "too long": "# " + "x" * MAX_FILE_BYTES,
    "only a key": "schema",
    "empty": "",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_end_in_a_clear_error(text):
    """Size, depth, numbers and characters that no plan has are refused, not suffered."""
    faults = faults_of(text)
    assert len(faults) <= 101
    for fault in faults:
        assert "\x00" not in str(fault)
        assert len(str(fault)) < 1000


def test_bytes_that_are_no_utf8_name_their_line():
    with pytest.raises(ConfigError) as caught:
        read_toml_bytes(b"a = 1\nb = '\xff'\n", file="p.toml")
    assert "p.toml:2" in str(caught.value)
    assert read_toml_bytes(b"\xef\xbb\xbfa = 1", file="p.toml") == "a = 1"


def test_windows_line_ends_and_byte_order_mark_are_read():
    """Files from other editors say the same plan."""
    assert loads("\ufeff" + GOOD.replace("\n", "\r\n")) == loads(GOOD)
