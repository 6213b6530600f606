"""Rows of measured performance as prediction cases: which are asked, of which config, and why a row is not asked.

The rules are printed by `python -m benchmarks.accuracy --rules`. A row is never left out for its result.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.noted_rows import as_noted
from benchmarks.run_commands import Command, commands_of

RULES = """\
Row filter. A row is asked when its model has a config and its value is above 0. Nothing else leaves a row out:
hardware or a quantisation that is not known and a load that cannot be posed are refusals, and refusals are misses.
Loads. A number is the concurrency; `max`, `peak ...` ask for 1024 at once on each device, without end; `server` and
`interactive` ask for the highest rate within MLPerf's limits on latency. `open-loop R req/s` asks for R arrivals a
second, and so does a page that states a constant rate (8RPS, --profile constant, a heading `Rate 16`) and prints the
peak of concurrency, as do GPUStack's Long Context and Generation Heavy profiles (1 a second) where fewer were under way
than were sent. A replayed trace is asked at its mean rate and with its engine's limits where it lies beside the data
(traces_vllm), else refused. No number means 1. `N requests` in a note end a run; 64 users and more are else a burst.
Depth. Where the prompt and the depth are the same number (a decode after a prompt of that length), it is counted
once. Where rows of one page ask one question at three or more context sizes (`ctx N` of the note) and state no depth,
they were measured at that depth: the size less prompt and answer. A note that tells of a chat in turns with prefix
caching puts 0.9 of its prompts into the cache.
Prompts of MLPerf rows, which their logs leave out, are the mean of the benchmark's published data set.
Prompts of other rows that state none are 512 tokens for prefill and 128 for everything else.
Engine. That of the command in the note, or above it under the same heading (the first of two results of a load is the
first command's); else as stated; a command with SGLang's own flags (--tp-size, --mem-fraction-static, ...) is SGLang's.
A command also says weights (a suffix of its model), degrees (1 where it has no flag), seats and the type of the cache.
Parallelism. TPn, PPn, EP and `layer-split` as stated; `Ninst` are N replicas; `--enable-dp-attention` with a
`--dp-size` asks with attention cut by sequences; `cpu-offload`, `CPU experts` or `gpu_experts=P%` with weights over
two memories (P% of the experts on the GPU, placed as it says; none where a note has llama.cpp's `-ot exps=CPU` or
`--cpu-moe`; else as many as fit). A step's prompt tokens (llama.cpp's n_ubatch, vLLM's token budget) are
those of the row's note, or the n_ubatch of its page where all rows that state one agree.
Speculation. `spec` asks with it, as does the heading of a section (Speculative Decoding, MTP); method and depth are
read from the note's command or run. A note that says that a run was not speculative (AR baseline, no MTP) is believed.
Back end. What a note says that kernels were compiled for (Vulkan, ROCm, HIP) is added to the engine's name, and a note
that says that a row filed under a processor ran on its graphics unit names the device. A row that only points to its
page (`see discussion`) is read by that page.
Time per token of guidellm's pages is the whole latency over the tokens, first token and queue included; it is asked so.
Rows apart. Numbers of four digits and more that one site prints for two pairs; results whose page has no command, or
whose heading names another engine than their column and shows none; the 99th percentiles of a run (`P99;` in a note);
vLLM pages whose commands have `--reasoning-parser`, which timed the first token after the reasoning and divided by all
tokens. They are scored, stand apart in the second line of the summary, and have no part in the fit.
Names. Case, organisation, folder, file suffix and everything after `:` but a size are dropped; a name is cut into
words at - _ / : and between a word and a version (gemma4 = gemma 4). Words of a format, a tuning or a date are
dropped (GGUF, Q4_K_M, AWQ, FP8, NVFP4, MLX, 4bit, UD, i1, Instruct, it, chat, hf, base, MTP, qat, 2507, v0.1, ...).
Coder models have the shape of their plain ones. A config is meant when its words stand in the name in a row; of
several the one that ends last, then the longest (a distillation names its student last), and none that stands before
the word `distill`. A mixture may leave its active size out (gemma4:26b).
Hardware. The catalogue's names; failing that the card in brackets or beside a `+`, without memory sizes or repeated
words; of several sizes of one chip the largest; a CPU by the memory of its platform.
"""

_FORMAT_WORDS = frozenset(
    re.findall(
        r"\S+",
        "gguf awq gptq fp8 fp4 nvfp4 mxfp4 bf16 fp16 f16 int4 int8 mlx ud i1 unsloth instruct it chat hf base mtp qat "
        "dynamic 4bit 8bit 6bit bit imatrix xl k m s l q4 q2 q3 q5 q6 q8 0 iq4 nl xs text latest thinking reasoning "
        "coder",
    )
)
_DROPPED = re.compile(r"^(v0\.\d+|v1|\d{4}|q\d(_\w+)?|iq\d(_\w+)?|int\d|w\d+a\d+)$")
_VERSIONED = re.compile(r"^([a-z]{3,})(\d+(?:\.\d+)?)$")
_ACTIVE = re.compile(r"^a\d+b$")
SATURATED = 1024
# What earlier turns leave in the cache of a chat. Prompts read whole would fill two thirds of the time of such runs at
# 20 requests a second; that their time a token hardly grows from 5 to 20 says that next to nothing was read.
_CACHED = 0.9
_SGLANG_FLAGS = r"cmd: .*--(?:tp-size|mem-fraction-static|ep-size|chunked-prefill-size)[= ]"
# Flags and words of pages made with guidellm, whose time per output token is (last token - request) / tokens.
_GUIDED = r"le constant --rate|--max-requests \$|benchmark job submission|guidellm"
# llama.cpp's flags that leave no expert to the card.
_ALL_EXPERTS = re.compile(r"(?:-ot|--override-tensor) \S*exps\S*=CPU|--cpu-moe\b")
# A heading that ends in an engine's name, and no command beside it.
_IN_HEADING = re.compile(r'section "[^"]* in ([^"\s/]+)"')
_TELLING_DIGITS = 4
_RATED = re.compile(r"(\d+) ?RPS\b.*--profile constant")
# Mean prompts of MLPerf Inference v5.1 data sets, in tokens. Source: MLCommons task descriptions (OpenOrca; a mix of
# LongBench, RULER and GovReport; CNN/DailyMail).
_MLPERF_PROMPTS = {"Llama-2-70b-chat": 294, "Llama-3.1-405B-Instruct": 9428, "Llama-3.1-8B-Instruct": 778}


GROUPS = ("pair", "model", "machine", "page")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRow:
    """One measured number and the question it answers."""

    number: int
    pair: str
    tier: str
    metric: str
    value: float
    config: str | None
    hardware: str
    question: dict[str, Any]
    source: str
    apart: str = ""
    """Why the number cannot be what its columns say, whatever it is; such rows are scored, and stand apart."""

    def group(self, kind: str) -> str:
        """Return what is left out of a fit with this row: its pair, its model, its machine or the page it stands on."""
        model, _, machine = self.pair.partition("@")
        return {"pair": self.pair, "model": model, "machine": machine, "page": self.source}[kind]

    @property
    def repeat_key(self) -> tuple[Any, ...]:
        """What rows that measure the same thing share."""
        asked = {key: value for key, value in self.question.items() if key not in {"id", "engine"}}
        family = str(self.question["engine"]).lower().split()[0] if self.question["engine"] else ""
        return self.pair, family, tuple(sorted((key, str(value)) for key, value in asked.items()))


def load_rows(path: Path, configs: Iterable[str]) -> Iterator[MeasuredRow]:
    """Yield every row of a file with the columns of measured.csv; `config` is None where no config fits its model."""
    index = ConfigNames(configs)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = as_noted(list(csv.DictReader(stream)))
    stated: dict[str, set[int | None]] = defaultdict(set)
    for row in rows:
        if "ub " in row.get("note", ""):
            stated[row.get("source", "")].add(_chunk(row["note"]))
    chunks = {source: found.copy().pop() for source, found in stated.items() if len(found) == 1}
    commands = commands_of(rows)
    rates = {row.get("source", ""): found[1] for row in rows if (found := _RATED.search(row.get("note", "")))}
    doubts = _Doubts(rows, path.parent)
    for number, (row, command) in enumerate(zip(rows, commands, strict=True), start=2):
        value = _number(row["value"])
        whole = row["metric"] == "tpot_ms" and doubts.counts_first_token(row)
        if whole and value is not None:
            value *= _whole(row["output_tokens"]) or 1
        yield MeasuredRow(
            number=number,
            pair=row.get("pair") or f"{row['model']}@{row['hardware']}",
            tier=row.get("tier") or "C",
            metric=row["metric"],
            value=value or 0.0,
            config=index.find(row["model"]),
            hardware=row["hardware"],
            question=_question(number, row, command, chunks.get(row.get("source", "")), _rate(row, rates, doubts))
            | {"whole_latency": whole, "engine_limits": doubts.limits_of_trace(row)},
            source=row.get("source", ""),
            apart=doubts.about(row, command),
        )


class _Doubts:
    """What the rows of a file tell together of each other: rows printed twice, tools that did not see every token."""

    def __init__(self, rows: Sequence[dict[str, str]], folder: Path) -> None:
        self._folder = folder
        self._parsing = {
            (row.get("source"), row["engine"]) for row in rows if "--reasoning-parser" in row.get("note", "")
        }
        self._guided = {row.get("source") for row in rows if re.search(_GUIDED, row.get("note", ""))}
        self._pairs: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for row in rows:
            self._pairs[_printed(row)].add(row.get("pair") or "")

    def counts_first_token(self, row: dict[str, str]) -> bool:
        """Return whether the tool divides the whole latency, first token and queue included, by the tokens."""
        return self.is_guided(row) and not self._hides_reasoning(row)

    def limits_of_trace(self, row: dict[str, str]) -> str:
        """Return the engine's limits as the replayed trace's record has them; empty where there is none."""
        path = self._trace(row, "meta.json")
        if not path.is_file():
            return ""
        stated = json.loads(path.read_text(encoding="utf-8"))["engine_kwargs"]
        return f"max_num_seqs {stated['max_num_seqs']}, max_batched_tokens {stated['max_num_batched_tokens']}"

    def _trace(self, row: dict[str, str], kind: str) -> Path:
        return self._folder / "traces_vllm" / f"{'__'.join(row.get('source', '').split('/')[-2:])}.{kind}"

    def rate_of_trace(self, row: dict[str, str]) -> str | None:
        """Return the mean rate of the replayed trace that a source names, where it lies beside the data."""
        path = self._trace(row, "requests.jsonl")
        if not path.is_file():
            return None
        arrived = [json.loads(line)["arrival_time"] for line in path.read_text(encoding="utf-8").splitlines()]
        return f"open-loop {(len(arrived) - 1) / (max(arrived) - min(arrived)):.3f} req/s"

    def is_guided(self, row: dict[str, str]) -> bool:
        """Return whether the page was made with guidellm."""
        return row.get("source") in self._guided

    def _hides_reasoning(self, row: dict[str, str]) -> bool:
        return (row.get("source"), row["engine"]) in self._parsing and row["engine"].lower().startswith("vllm")

    def about(self, row: dict[str, str], command: Command | None) -> str:
        """Return why a number is not what its columns say; empty where nothing speaks against it."""
        if len(re.sub(r"[.0]", "", row["value"])) >= _TELLING_DIGITS and len(self._pairs[_printed(row)]) > 1:
            return "printed for two machines or models"
        if command is not None and not command.is_own:
            return "its command is not on the page"
        named = _IN_HEADING.search(row.get("note", ""))
        if command is None and named and named[1].lower() not in row["engine"].lower():
            return "its heading names another engine"
        if row.get("note", "").startswith("P99;"):
            return "a 99th percentile, where means are predicted"
        if row["metric"] == "tpot_ms" and self._hides_reasoning(row):
            return "reasoning not seen"
        return ""


def _printed(row: dict[str, str]) -> tuple[str, ...]:
    site = "/".join(row.get("source", "").split("/")[:2])
    return site, row["metric"], row["value"], row["batch_or_concurrency"], row["prompt_tokens"], row["output_tokens"]


def _question(
    number: int, row: dict[str, str], command: Command | None, page_chunk: int | None, rate: str | None
) -> dict[str, Any]:
    parallel, note = row["parallelism"], row.get("note", "")
    if command is not None:
        note = f"{note} cmd: {command.text}"
    prompt = _whole(row["prompt_tokens"])
    depth = _whole(row.get("context_depth") or "")
    if prompt is None and "MLPerf" in row["note"]:
        prompt = _MLPERF_PROMPTS.get(row["model"])
    counted = re.match(r"(\d+)x ", row["hardware"])
    instances = re.search(r"(\d+)inst", parallel)
    devices = max(_whole(row["n_devices"]) or 1, int(counted[1]) if counted else 1)
    replicas = int(instances[1]) if instances else 1
    data_parallel = re.search(r"\bDP(\d+)", parallel)
    if data_parallel and row["batch_or_concurrency"].startswith("open-loop"):
        replicas = max(replicas, int(data_parallel[1]))
    load: Any = _load(row["batch_or_concurrency"])
    if load == SATURATED:
        load *= max(_whole(row["n_devices"]) or 1, 1)
    requests = _requests(note)
    if requests is None and isinstance(load, int) and load >= SATURATED and _whole(row["batch_or_concurrency"]) is None:
        requests = 0
    load = rate or load
    scenario = re.search(r"server|interactive", row["batch_or_concurrency"], re.IGNORECASE)
    shares = re.search(r"gpu_experts=\d+%(?: \S+)?", parallel)
    offload: Any = bool(re.search(r"cpu-offload|CPU experts|GPU/CPU", parallel))
    if prompt and not depth and "multi-turn" in row.get("note", ""):
        prompt, depth = prompt - round(_CACHED * prompt), round(_CACHED * prompt)
    tensor, pipeline = _degree("TP", parallel), _degree("PP", parallel)
    if command is not None:
        tensor, pipeline = command.tensor_parallel, command.pipeline_parallel
        devices = replicas * tensor * pipeline
    sequences = re.search(r"--max-(?:num-seqs|running-requests)[= ](\d+)", note)
    limited = f" (max_num_seqs {sequences[1]})" if sequences else ""
    cache = re.search(r"--kv-cache-dtype[= ](fp8|bf16)", note)
    return {
        "id": str(number),
        "machines_count": max(devices // replicas, (tensor or 1) * (pipeline or 1), 1),
        "replicas": replicas,
        "engine": (command.engine if command else "SGLang" if re.search(_SGLANG_FLAGS, note) else row["engine"])
        + limited,
        "weights": (command.weights or "") if command else row["quantization_weights"],
        "kv_type": cache[1] if cache else row["kv_dtype"],
        "tensor_parallel": tensor,
        "pipeline_parallel": pipeline,
        "expert_parallel": True if re.search(r"\bEP", parallel) or "--moe-a2a-backend=deepep" in note else None,
        "cpu_offload": shares[0] if shares else "gpu_experts=0%" if _ALL_EXPERTS.search(note) else offload,
        "attention_data_parallel": bool(
            re.search(r"--enable-dp-attention.*--dp-size[= ](?!1\b)|--dp-size[= ](?!1\b).*--enable-dp-attention", note)
        ),
        "prompt_chunk_tokens": _chunk(note) or page_chunk,
        "speculative": _speculation(parallel, note),
        "on_cpu": row["parallelism"] == "CPU" or row["hardware"].startswith("CPU "),
        "concurrency": load,
        "input_tokens": prompt,
        "output_tokens": _whole(row["output_tokens"]),
        "context_depth": depth or 0,
        "requests": requests,
        "limits": scenario[0].lower() if scenario else None,
        "metric": row["metric"],
    }


def _requests(note: str) -> int | None:
    """Return how many requests a run had, where its note tells."""
    sent = re.search(r"(\d+) (?:ShareGPT-like )?(?:requests|prompts)\b", note)
    if sent is not None:
        return int(sent[1])
    answered = re.search(r"(\d+) ok, \d+ failed", note)
    return int(answered[1]) if answered else None


def _speculation(parallel: str, note: str) -> str | bool:
    """Return what a row says of drafting: beside the parallelism, in its command, or as the heading it stands under."""
    heading = re.search(r'section "([^"]*)"', note)
    if (
        "spec" not in parallel
        and "--speculative-" not in note
        and not (heading and re.search(r"specul|\bMTP\b|eagle", heading[1], re.IGNORECASE))
    ):
        return False
    stated = parallel[parallel.index("spec") :] if "spec" in parallel else "spec"
    said = re.search(r"-(?:(ngram)|(tli)-\w+)-k(\d+)", note)
    if said is not None:
        return f"{stated} k={said[3]}"
    drafted = re.search(r'num[-_]speculative[-_]tokens"?[:= ]+(\d+)|speculative-num-steps (\d+)', note)
    method = re.search(r"mtp|eagle", note.lower())
    return f"{stated}{':' + method[0] if method else ''}{' k=' + (drafted[1] or drafted[2]) if drafted else ''}"


def _rate(row: dict[str, str], rates: Mapping[str, str], doubts: _Doubts) -> str | None:
    """Return the load of a page that sends requests at a rate and prints the most that were ever under way."""
    sent = re.search(r"(\d+) requests", row["note"])
    is_peak = sent is not None and sent[1] != row["batch_or_concurrency"]
    if doubts.is_guided(row) and is_peak and re.search(r'section "(?:Long Context|Generation Heavy)', row["note"]):
        return "open-loop 1 req/s"
    if row["batch_or_concurrency"] == "open-loop trace":
        return doubts.rate_of_trace(row)
    rate = rates.get(row.get("source", ""))
    if rate is None:
        return None
    heading = re.search(r'section "Rate (\d+)"', row["note"])
    return f"open-loop {heading[1] if heading else rate} req/s"


def _chunk(note: str) -> int | None:
    """Return how many prompt tokens a step takes, where a note states llama.cpp's n_ubatch or vLLM's token budget."""
    found = re.search(r"\bub (\d+)|--max[-_]num[-_](?:batched[-_])?tokens[= ](\d+)", note)
    return int(found[1] or found[2]) if found else None


def _load(text: str) -> int | str:
    number = _whole(text)
    if number is not None:
        return max(number, 1)
    if re.search(r"max|server|interactive|peak|offline", text, re.IGNORECASE):
        return SATURATED
    return text or 1


def _degree(letters: str, text: str) -> int | None:
    found = re.search(rf"{letters}(\d+)", text)
    return int(found[1]) if found else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _whole(text: str) -> int | None:
    value = _number(text)
    return None if value is None else round(value)


class ConfigNames:
    """Configs found by the names that people give to files, tags and tunings of a model."""

    def __init__(self, names: Iterable[str]) -> None:
        self._known: dict[tuple[str, ...], str] = {}
        for name in names:
            self._known.setdefault(_words(name), name)
        for words, name in list(self._known.items()):
            if _ACTIVE.match(words[-1]):
                self._known.setdefault(words[:-1], name)

    def find(self, name: str) -> str | None:
        """Return the config that `name` means, None where there is none."""
        words = _words(name)
        best: tuple[int, int, str] | None = None
        for known, config in self._known.items():
            length = len(known)
            for start in range(len(words) - length + 1):
                if words[start : start + length] == known:
                    if "distill" in words[start + length :]:
                        continue
                    found = (start + length, length, config)
                    if best is None or found[:2] > best[:2]:
                        best = found
        return best[2] if best else None


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name that tell its shape.

    >>> _words("unsloth/Qwen3.6-35B-A3B-MTP-GGUF"), _words("gemma4:12b-mlx")
    (('qwen', '3.6', '35b', 'a3b'), ('gemma', '4', '12b'))
    """
    bare = name.rsplit("/", maxsplit=1)[-1].lower().removesuffix(".gguf").replace("meta-llama", "llama")
    found: list[str] = []
    for word in re.split(r"[-_:\s()]+", bare):
        if not word or word in _FORMAT_WORDS or _DROPPED.match(word):
            continue
        versioned = _VERSIONED.match(word)
        found.extend(versioned.groups() if versioned else (word,))
    return tuple(found)
