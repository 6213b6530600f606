"""Let clients that people use loose on a real `ownward serve`, and say what worked.

    python -m benchmarks.real_clients                            # makes the environments in a temporary folder
    python -m benchmarks.real_clients --environments ~/clients   # keeps them, or takes those that are there
    python -m benchmarks.real_clients --only llm --only aider

openai, anthropic, LangChain, pydantic-ai, `llm` and the coding agent aider are installed apart from ownward, as their
users have them. Behind the gateway: a fake upstream of either dialect, and the embedded engine with its small model.
The result is written to benchmarks/results/real_clients-DATE.json; the exit code is 1 where a cell failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine_facts import new_record, write_record
from benchmarks.serving import start_serving
from benchmarks.tool_template import with_tools

from ownward import ledger
from ownward.engines import EMBEDDED_MODEL, FakeOptions, FakeProcess, fetch, run_fake
from ownward.engines.fake import Failure, OutputLength

DRIVER = Path(__file__).with_name("driver.py")
ENVIRONMENTS = {
    "libraries": (
        "anthropic", "langchain-anthropic", "langchain-openai", "llm", "openai", "pydantic-ai-slim[openai,anthropic]",
    ),
    "aider": ("aider-chat",),
}  # fmt: skip
CLIENTS = {
    "openai": "libraries",
    "anthropic": "libraries",
    "langchain-openai": "libraries",
    "langchain-anthropic": "libraries",
    "pydantic-ai (openai)": "libraries",
    "pydantic-ai (anthropic)": "libraries",
    "llm": "libraries",
    "aider": "aider",
}
SAID = "the answer is 42"
EDIT = """greet.py
```python
<<<<<<< SEARCH
    return "hello"
=======
    return "hello world"
>>>>>>> REPLACE
```
"""
FAKES = {
    "plain": FakeOptions(reply=SAID),
    "tools": FakeOptions(reply=SAID, tool_calls="until-results"),
    "form": FakeOptions(reply='{"name":"Bern","people":134000}'),
    "limited": FakeOptions(failures=(Failure.parse("429"),), retry_after_s=1),
    "slow": FakeOptions(output_tokens=OutputLength.parse("400"), tpot_s=0.03),
    "edit": FakeOptions(reply=EDIT),
}
_TIER = """
[tiers.{name}]
kind = "owned"
model = "{name}"
engine = "adopted"
max_output_tokens = 500
[[tiers.{name}.upstreams]]
name = "{name}"
url = "{url}"
dialect = "{dialect}"
"""
_EMBEDDED = """
[tiers.plain-embedded]
kind = "owned"
model = "smollm2-135m-instruct"
engine = "embedded"
max_context_tokens = 2048

[tiers.tools-embedded]
kind = "owned"
model = "smollm2-135m-instruct"
engine = "embedded"
engine_options = {{ model_path = "{weights}" }}
max_context_tokens = 2048
"""
# What cannot be asked of an upstream of this dialect (no translation of it exists), and what is asked of a small model,
# for tools with a chat template that knows them.
ONLY_OPENAI = frozenset({"embeddings", "count_tokens"})
OF_EMBEDDED = (
    "plain", "stream", "tools", "structured", "400", "401", "404", "models", "responses", "responses put together",
    "responses continued", "count_tokens",
)  # fmt: skip


@contextlib.contextmanager
def serving(folder: Path, *, with_engine: bool) -> Iterator[dict[str, Any]]:
    """Yield the site: a gateway process that demands keys, in front of fakes and the embedded engine."""
    started: list[FakeProcess] = []
    process: subprocess.Popen[bytes] | None = None
    plan = 'schema = "ownward.plan/1"\nname = "clients"\n'
    try:
        urls = {}
        for name, options in FAKES.items():
            started.append(run_fake(options))
            urls[name] = started[-1].base_url
            for dialect in ("openai", "anthropic"):
                plan += _TIER.format(name=f"{name}-{dialect}", url=urls[name], dialect=dialect)
        if with_engine:
            weights = with_tools(fetch(EMBEDDED_MODEL, cache_dir=folder), folder / "tools.gguf")
            plan += _EMBEDDED.format(weights=weights)
        (folder / "plan.toml").write_text(plan, encoding="utf-8")
        (folder / "ownward.toml").write_text(
            '[gateway]\nrequires_keys = true\nkeep_responses_s = "1h"\n', encoding="utf-8"
        )
        with ledger.open(folder / "ledger.db") as opened:
            key = opened.create_key("clients")
        process, base_url = start_serving(folder)
        models = ["openai", "anthropic", *(["embedded"] if with_engine else [])]
        yield {
            "base_url": base_url.removesuffix("/v1"), "key": key, "slow_fake": urls["slow"], "models": models,
            "cells": {"embedded": OF_EMBEDDED},
        }  # fmt: skip
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        for fake in started:
            fake.stop()


def environment(folder: Path, name: str) -> Path:
    """Return the Python of an environment, which is made if it is not there."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        venv.create(folder / name, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *ENVIRONMENTS[name]], check=True)
    return python


def versions(python: Path) -> dict[str, str]:
    """Return the versions of what an environment was made for."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
    wanted = {package.partition("[")[0] for packages in ENVIRONMENTS.values() for package in packages}
    return {found["name"]: found["version"] for found in json.loads(listed.stdout) if found["name"].lower() in wanted}


def drive(client: str, python: Path, site: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return what came of a client's cells."""
    asked = dict(site)
    if client == "aider":
        asked["models"] = ["openai", "anthropic", "by-messages-anthropic", "by-messages-openai"]
    (folder / "site.json").write_text(json.dumps(asked), encoding="utf-8")
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        [python, str(DRIVER), client, str(folder / "site.json")], env=bare, capture_output=True, text=True,
        timeout=1800, check=False,
    )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not results:
        results.append({"client": client, "upstream": None, "cell": "runs", "error": done.stderr[-800:], "seconds": 0})
    return results


def is_refused_by_name(result: dict[str, Any]) -> bool:
    """Tell whether a cell asks what the upstream's dialect does not have, and was told so."""
    error = result["error"] or ""
    return result["cell"] in ONLY_OPENAI and "only" in error and "400" in error


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a table in Markdown: clients and upstreams down, cells across."""
    cells = list(dict.fromkeys(result["cell"] for result in results))
    lines = ["| client | upstream | " + " | ".join(cells) + " |", "| --- | --- |" + " --- |" * len(cells)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for result in results:
        said = "yes" if result["error"] is None else "refused" if result.get("refused") else "**no**"
        note = f" ({result['note']})" if result.get("note") and "ms" in str(result["note"]) else ""
        rows.setdefault((result["client"], str(result["upstream"])), {})[result["cell"]] = said + note
    for (client, upstream), found in rows.items():
        lines.append(f"| {client} | {upstream} | " + " | ".join(found.get(cell, "") for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Serve, drive every client, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, help="folder of the clients' environments")
    parser.add_argument("--only", action="append", help="a client; several may be named")
    parser.add_argument("--no-engine", action="store_true", help="without the embedded engine")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record, results, found = new_record("real_clients"), [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environments = options.environments or folder / "environments"
        with serving(folder, with_engine=not options.no_engine) as site:
            for client, of in CLIENTS.items():
                if options.only and client not in options.only:
                    continue
                python = environment(environments, of)
                found[of] = versions(python)
                for result in drive(client, python, site, folder):
                    result["refused"] = is_refused_by_name(result)
                    results.append(result)
                    if result["error"] and not result["refused"]:
                        print(f"{client}, {result['upstream']}, {result['cell']}: {result['error']}", file=sys.stderr)
        log = (folder / "gateway.log").read_text(errors="replace")
    failed = [result for result in results if result["error"] and not result["refused"]]
    record |= {
        "versions": found, "cells": len(results), "failed": len(failed), "tracebacks_in_log": log.count("Traceback"),
        "results": results,
    }  # fmt: skip
    print(table(results))
    print(f"{len(results) - len(failed)} of {len(results)} cells; written to {write_record(record, options.out)}")
    sys.exit(1 if failed or "Traceback" in log else 0)


if __name__ == "__main__":
    main()
