"""Drive one client through its cells; runs in the client's own environment, imports nothing of ownward's.

    python driver.py CLIENT SITE.json        # one JSON line for each cell

A cell is a function of the site (addresses and keys) and of the model it asks for; what it raises is its result.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request  # noqa: TID251 - it runs where ownward is not installed
from collections.abc import Callable
from pathlib import Path
from typing import Any

Site = dict[str, Any]
Cell = Callable[[Site, str], object]
CELLS: dict[str, dict[str, Cell]] = {}
MESSAGES = [{"role": "user", "content": "hello there"}]
PLEASE = "Please."  # what the small model has seen to be answered by a call
COLD: dict[str, Any] = {"temperature": 0}  # real weights answer the same each time
SAID = "the answer is 42"
SCHEMA = {
    "type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"], "additionalProperties": False,
}  # fmt: skip
ABORTED_WITHIN_S = 0.1


def cell(client: str, name: str) -> Callable[[Cell], Cell]:
    """Enter a function as a cell of a client."""

    def enter(function: Cell) -> Cell:
        CELLS.setdefault(client, {})[name] = function
        return function

    return enter


def equal(found: object, wanted: object) -> None:
    """Raise where something is not what it should be."""
    if found != wanted:
        raise AssertionError(f"found {found!r}, not {wanted!r}")


def raises(kind: type[BaseException], call: Callable[[], object]) -> None:
    """Raise where a call does not end in the client's own kind of error."""
    try:
        call()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def counted(site: Site) -> dict[str, int]:
    """Return what the fake that answers slowly has counted."""
    with urllib.request.urlopen(f"{site['slow_fake']}/count?calls=0") as answer:  # noqa: TID251
        found: dict[str, int] = json.load(answer)
    return found


def is_aborted_after(site: Site, leave: Callable[[], object], before: int) -> str:
    """Leave, and return how long the upstream's call lived on."""
    leave()
    start_s = time.monotonic()
    while counted(site)["aborted"] <= before:
        if time.monotonic() - start_s > 5:
            raise AssertionError("the upstream's call was not cancelled")
        time.sleep(0.005)
    took_s = time.monotonic() - start_s
    if took_s > ABORTED_WITHIN_S:
        raise AssertionError(f"the upstream's call lived on for {took_s * 1000:.0f} ms")
    return f"{took_s * 1000:.0f} ms"


def tier(kind: str, model: str) -> str:
    """Return the tier that a cell asks; the embedded engine has one besides that with tools."""
    return f"{'plain' if model == 'embedded' and kind != 'tools' else kind}-{model}"


def is_city(found: Any, model: str, wanted: Any) -> None:
    """Raise where a form is not what it should be; real weights fill it in as they like."""
    if model == "embedded":
        equal(type(found), type(wanted))
    else:
        equal(found, wanted)


def is_asked_for(found: Any, model: str) -> None:
    """Raise where the arguments of a call are not what they should be; real weights ask for what they like."""
    if model == "embedded":
        equal({name: type(value) for name, value in found.items()}, {"query": str})
    else:
        equal(found, {"query": "fake"})


def is_said(found: str, model: str) -> None:
    """Raise where an answer is not what it should be; real weights say what they like."""
    if model == "embedded":
        assert found
    else:
        equal(found, SAID)


# openai-python


def _openai(site: Site, **more: Any) -> Any:
    import openai

    stated = {"base_url": f"{site['base_url']}/v1", "api_key": site["key"], "max_retries": 0, **more}
    return openai.OpenAI(**stated)


@cell("openai", "plain")
def _(site: Site, model: str) -> None:
    answer = _openai(site).chat.completions.create(model=f"plain-{model}", messages=MESSAGES, max_tokens=20)
    if model != "embedded":
        equal(answer.choices[0].message.content, SAID)


@cell("openai", "stream")
def _(site: Site, model: str) -> None:
    asked = {"model": f"plain-{model}", "messages": MESSAGES, "max_tokens": 20}
    chunks = list(_openai(site).chat.completions.create(stream=True, **asked))
    assert len(chunks) > 1
    if model == "embedded":
        return  # its answer ends at the limit, which the helper below takes for an error
    with _openai(site).chat.completions.stream(stream_options={"include_usage": True}, **asked) as stream:
        final = stream.get_final_completion()
    assert final.usage.completion_tokens > 0
    equal(final.choices[0].message.content, SAID)


@cell("openai", "tools")
def _(site: Site, model: str) -> None:
    client, messages = _openai(site), [{"role": "user", "content": PLEASE}]
    tools = [{"type": "function", "function": {"name": "look", "description": "d", "parameters": SCHEMA}}]
    asked = {"model": tier("tools", model), "tools": tools, "max_tokens": 50, "temperature": 0}
    first = client.chat.completions.create(messages=messages, **asked).choices[0]
    equal(first.finish_reason, "tool_calls")
    call = first.message.tool_calls[0]
    is_asked_for(json.loads(call.function.arguments), model)
    messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": "found"}]
    second = client.chat.completions.create(messages=messages, **asked).choices[0]
    is_said(second.message.content, model)


@cell("openai", "structured")
def _(site: Site, model: str) -> None:
    import pydantic

    class City(pydantic.BaseModel):
        name: str
        people: int

    parsed = _openai(site).chat.completions.parse(
        model=tier("form", model), messages=MESSAGES, max_tokens=50, temperature=0, response_format=City
    )
    is_city(parsed.choices[0].message.parsed, model, City(name="Bern", people=134000))


@cell("openai", "400")
def _(site: Site, model: str) -> None:
    import openai

    ask = _openai(site).chat.completions.create
    headers = {"x-ownward-label": "?!"}
    raises(openai.BadRequestError, lambda: ask(model=f"plain-{model}", messages=MESSAGES, extra_headers=headers))


@cell("openai", "401")
def _(site: Site, model: str) -> None:
    import openai

    client = _openai(site, api_key="ow-wrong")
    ask = client.chat.completions.create
    raises(openai.AuthenticationError, lambda: ask(model=f"plain-{model}", messages=MESSAGES))


@cell("openai", "404")
def _(site: Site, model: str) -> None:
    import openai

    del model
    raises(openai.NotFoundError, lambda: _openai(site).chat.completions.create(model="nobody", messages=MESSAGES))


@cell("openai", "429")
def _(site: Site, model: str) -> None:
    import openai

    ask = _openai(site).chat.completions.create
    raises(openai.RateLimitError, lambda: ask(model=f"limited-{model}", messages=MESSAGES, max_tokens=5))


@cell("openai", "leaves")
def _(site: Site, model: str) -> str:
    before = counted(site)["aborted"]
    stream = _openai(site).chat.completions.create(
        model=f"slow-{model}", messages=MESSAGES, stream=True, max_tokens=500
    )
    next(iter(stream))
    return is_aborted_after(site, stream.close, before)


@cell("openai", "embeddings")
def _(site: Site, model: str) -> None:
    equal(len(_openai(site).embeddings.create(model=f"plain-{model}", input=["a", "b"]).data), 2)


@cell("openai", "models")
def _(site: Site, model: str) -> None:
    assert f"plain-{model}" in {found.id for found in _openai(site).models.list()}


@cell("openai", "responses")
def _(site: Site, model: str) -> None:
    client = _openai(site)
    whole = client.responses.create(model=f"plain-{model}", input="hi", max_output_tokens=20)
    assert whole.output_text
    events = list(client.responses.create(model=f"plain-{model}", input="hi", max_output_tokens=20, stream=True))
    assert events[-1].type in {"response.completed", "response.incomplete"}


@cell("openai", "responses put together")
def _(site: Site, model: str) -> None:
    client = _openai(site)
    with client.responses.stream(model=f"plain-{model}", input="hi", max_output_tokens=20) as stream:
        kinds = [event.type for event in stream]
        assert "response.output_text.delta" in kinds
        if model != "embedded":  # its answer ends at the limit, and is incomplete
            equal(stream.get_final_response().output_text, SAID)


@cell("openai", "responses continued")
def _(site: Site, model: str) -> None:
    import openai

    client, asked = _openai(site), {"model": f"plain-{model}", "max_output_tokens": 20}
    first = client.responses.create(input="one", **asked)
    events = list(client.responses.create(input="two", previous_response_id=first.id, stream=True, **asked))
    second = events[-1].response
    equal(client.responses.retrieve(second.id).previous_response_id, first.id)
    items = client.responses.input_items.list(second.id, order="asc").data
    equal([item.role for item in items], ["user", "assistant", "user"])
    equal([items[0].content[0].text, items[2].content[0].text], ["one", "two"])
    client.responses.delete(first.id)
    ask = client.responses.create
    raises(openai.BadRequestError, lambda: ask(input="three", previous_response_id=second.id, **asked))


# anthropic


def _anthropic(site: Site, **more: Any) -> Any:
    import anthropic

    return anthropic.Anthropic(**{"base_url": site["base_url"], "api_key": site["key"], "max_retries": 0, **more})


@cell("anthropic", "plain")
def _(site: Site, model: str) -> None:
    answer = _anthropic(site).messages.create(model=f"plain-{model}", messages=MESSAGES, max_tokens=20)
    if model != "embedded":
        equal(answer.content[0].text, SAID)


@cell("anthropic", "stream")
def _(site: Site, model: str) -> None:
    with _anthropic(site).messages.stream(model=f"plain-{model}", messages=MESSAGES, max_tokens=20) as stream:
        said = "".join(stream.text_stream)
        assert stream.get_final_message().usage.output_tokens > 0
    if model != "embedded":
        equal(said, SAID)


@cell("anthropic", "tools")
def _(site: Site, model: str) -> None:
    client, messages = _anthropic(site), [{"role": "user", "content": PLEASE}]
    tools = [{"name": "look", "description": "d", "input_schema": SCHEMA}]
    asked: dict[str, Any] = {"model": tier("tools", model), "tools": tools, "max_tokens": 50, "extra_body": COLD}
    first = client.messages.create(messages=messages, **asked)
    equal(first.stop_reason, "tool_use")
    call = next(block for block in first.content if block.type == "tool_use")
    is_asked_for(call.input, model)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "found"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    is_said(client.messages.create(messages=messages, **asked).content[-1].text, model)


@cell("anthropic", "structured")
def _(site: Site, model: str) -> None:
    import pydantic

    class City(pydantic.BaseModel):
        name: str
        people: int

    parsed = _anthropic(site).messages.parse(
        model=tier("form", model), messages=MESSAGES, max_tokens=50, output_format=City, extra_body=COLD
    )
    is_city(parsed.parsed_output, model, City(name="Bern", people=134000))


@cell("anthropic", "400")
def _(site: Site, model: str) -> None:
    import anthropic

    ask, headers = _anthropic(site).messages.create, {"x-ownward-label": "?!"}
    raises(
        anthropic.BadRequestError,
        lambda: ask(model=f"plain-{model}", messages=MESSAGES, max_tokens=5, extra_headers=headers),
    )


@cell("anthropic", "401")
def _(site: Site, model: str) -> None:
    import anthropic

    ask = _anthropic(site, api_key="ow-wrong").messages.create
    raises(anthropic.AuthenticationError, lambda: ask(model=f"plain-{model}", messages=MESSAGES, max_tokens=5))


@cell("anthropic", "404")
def _(site: Site, model: str) -> None:
    import anthropic

    del model
    ask = _anthropic(site).messages.create
    raises(anthropic.NotFoundError, lambda: ask(model="nobody", messages=MESSAGES, max_tokens=5))


@cell("anthropic", "429")
def _(site: Site, model: str) -> None:
    import anthropic

    ask = _anthropic(site).messages.create
    raises(anthropic.RateLimitError, lambda: ask(model=f"limited-{model}", messages=MESSAGES, max_tokens=5))


@cell("anthropic", "leaves")
def _(site: Site, model: str) -> str:
    before = counted(site)["aborted"]
    with _anthropic(site).messages.stream(model=f"slow-{model}", messages=MESSAGES, max_tokens=500) as stream:
        next(iter(stream.text_stream))
        return is_aborted_after(site, stream.close, before)


@cell("anthropic", "models")
def _(site: Site, model: str) -> None:
    assert f"plain-{model}" in {found.id for found in _anthropic(site).models.list()}


@cell("anthropic", "count_tokens")
def _(site: Site, model: str) -> None:
    assert _anthropic(site).messages.count_tokens(model=f"plain-{model}", messages=MESSAGES).input_tokens > 0


# LangChain


def _chat_openai(site: Site, model: str, **more: Any) -> Any:
    from langchain_openai import ChatOpenAI

    stated = {"base_url": f"{site['base_url']}/v1", "api_key": site["key"], "max_retries": 0, "max_tokens": 50, **more}
    return ChatOpenAI(model=model, **stated)


def _chat_anthropic(site: Site, model: str, **more: Any) -> Any:
    from langchain_anthropic import ChatAnthropic

    stated = {"base_url": site["base_url"], "api_key": site["key"], "max_retries": 0, "max_tokens": 50, **more}
    return ChatAnthropic(model=model, **stated)


def _langchain(client: str, make: Callable[..., Any], module: str) -> None:
    """Enter the cells that both of LangChain's classes share."""

    @cell(client, "plain")
    def _(site: Site, model: str) -> None:
        said = make(site, f"plain-{model}").invoke("hello")
        assert said.usage_metadata["output_tokens"] > 0
        if model != "embedded":
            equal(said.text, SAID)

    @cell(client, "stream")
    def _(site: Site, model: str) -> None:
        pieces = list(make(site, f"plain-{model}").stream("hello"))
        assert len(pieces) > 1
        if model != "embedded":
            equal("".join(piece.text for piece in pieces), SAID)

    @cell(client, "tools")
    def _(site: Site, model: str) -> None:
        from langchain_core.messages import HumanMessage, ToolMessage

        tool = {"title": "look", "description": "d", **SCHEMA}
        bound = make(site, tier("tools", model), **COLD).bind_tools([tool])
        first = bound.invoke([HumanMessage(PLEASE)])
        (call,) = first.tool_calls
        equal(call["name"], "look")
        is_asked_for(call["args"], model)
        is_said(bound.invoke([HumanMessage(PLEASE), first, ToolMessage("found", tool_call_id=call["id"])]).text, model)

    @cell(client, "structured")
    def _(site: Site, model: str) -> None:
        import pydantic

        class City(pydantic.BaseModel):
            name: str
            people: int

        formed = make(site, tier("form", model), **COLD).with_structured_output(City, method="json_schema")
        is_city(formed.invoke("hello"), model, City(name="Bern", people=134000))

    def failing(name: str, model_of: Callable[[str], str], error: str, **more: Any) -> None:
        @cell(client, name)
        def _(site: Site, model: str) -> None:
            kind = getattr(__import__(module), error)
            raises(kind, lambda: make(site, model_of(model), **more).invoke("hello"))

    failing("401", lambda model: f"plain-{model}", "AuthenticationError", api_key="ow-wrong")
    failing("404", lambda _: "nobody", "NotFoundError")
    failing("429", lambda model: f"limited-{model}", "RateLimitError")
    failing(
        "400", lambda model: f"plain-{model}", "BadRequestError", default_headers={"x-ownward-label": "?!"}
    )  # fmt: skip

    @cell(client, "leaves")
    def _(site: Site, model: str) -> str:
        before = counted(site)["aborted"]
        stream = make(site, f"slow-{model}").stream("hello")
        next(stream)
        return is_aborted_after(site, stream.close, before)


_langchain("langchain-openai", _chat_openai, "openai")
_langchain("langchain-anthropic", _chat_anthropic, "anthropic")


@cell("langchain-openai", "embeddings")
def _(site: Site, model: str) -> None:
    from langchain_openai import OpenAIEmbeddings

    found = OpenAIEmbeddings(
        model=f"plain-{model}", base_url=f"{site['base_url']}/v1", api_key=site["key"], check_embedding_ctx_length=False
    )
    equal(len(found.embed_documents(["a", "b"])), 2)


@cell("langchain-openai", "responses")
def _(site: Site, model: str) -> None:
    assert _chat_openai(site, f"plain-{model}", use_responses_api=True).invoke("hello").text


@cell("langchain-openai", "responses continued")
def _(site: Site, model: str) -> None:
    chat = _chat_openai(site, f"plain-{model}", use_responses_api=True, use_previous_response_id=True)
    first = chat.invoke([("user", "one")])
    second = chat.invoke([("user", "one"), first, ("user", "two")])
    found = _openai(site).responses.retrieve(second.response_metadata["id"])
    equal(found.previous_response_id, first.response_metadata["id"])


# pydantic-ai


def _pydantic_model(site: Site, model: str, kind: str, key: str | None = None) -> Any:
    if kind == "openai":
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        provider = OpenAIProvider(base_url=f"{site['base_url']}/v1", api_key=key or site["key"])
        return OpenAIChatModel(model, provider=provider)
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    return AnthropicModel(model, provider=AnthropicProvider(base_url=site["base_url"], api_key=key or site["key"]))


def _pydantic_ai(kind: str) -> None:
    client = f"pydantic-ai ({kind})"

    @cell(client, "plain")
    def _(site: Site, model: str) -> None:
        from pydantic_ai import Agent

        said = Agent(_pydantic_model(site, f"plain-{model}", kind), model_settings={"max_tokens": 20}).run_sync("hello")
        if model != "embedded":
            equal(said.output, SAID)

    @cell(client, "stream")
    def _(site: Site, model: str) -> None:
        from pydantic_ai import Agent

        agent = Agent(_pydantic_model(site, f"plain-{model}", kind), model_settings={"max_tokens": 20})

        async def main() -> str:
            async with agent.run_stream("hello") as run:
                return str(await run.get_output())

        said = asyncio.run(main())
        if model != "embedded":
            equal(said, SAID)

    @cell(client, "tools")
    def _(site: Site, model: str) -> None:
        from pydantic_ai import Agent

        seen = []
        agent = Agent(_pydantic_model(site, tier("tools", model), kind), model_settings=COLD)

        @agent.tool_plain
        def look(query: str) -> str:
            """Look something up."""
            seen.append(query)
            return "found"

        is_said(agent.run_sync(PLEASE).output, model)
        for query in seen:
            is_asked_for({"query": query}, model)
        assert seen

    @cell(client, "structured")
    def _(site: Site, model: str) -> None:
        import pydantic
        from pydantic_ai import Agent, NativeOutput
        from pydantic_ai.profiles import ModelProfile

        class City(pydantic.BaseModel):
            name: str
            people: int

        found = _pydantic_model(site, tier("form", model), kind)
        found._profile = ModelProfile(supports_json_schema_output=True)  # noqa: SLF001 - it goes by known names
        said = Agent(found, output_type=NativeOutput(City), model_settings=COLD).run_sync("hello").output
        is_city(said, model, City(name="Bern", people=134000))

    def failing(name: str, model_of: Callable[[str], str], status: int, key: str | None = None) -> None:
        @cell(client, name)
        def _(site: Site, model: str) -> None:
            from pydantic_ai import Agent
            from pydantic_ai.exceptions import ModelHTTPError

            try:
                Agent(_pydantic_model(site, model_of(model), kind, key)).run_sync("hello")
            except ModelHTTPError as error:
                equal(error.status_code, status)
                return
            raise AssertionError("no ModelHTTPError was raised")

    failing("401", lambda model: f"plain-{model}", 401, "ow-wrong")
    failing("404", lambda _: "nobody", 404)
    failing("429", lambda model: f"limited-{model}", 429)


_pydantic_ai("openai")
_pydantic_ai("anthropic")


# llm, the command

_LLM_BRIEFLY = ("-o", "max_tokens", "50", "-o", "temperature", "0")


def _llm(site: Site, model: str, *argv: str, key: str | None = None, says: str = "hello") -> str:
    with tempfile.TemporaryDirectory() as folder:
        record = {
            "model_id": model, "model_name": model, "api_base": f"{site['base_url']}/v1", "supports_schema": True,
            "supports_tools": True, "api_key_name": "ownward",
        }  # fmt: skip
        Path(folder, "extra-openai-models.yaml").write_text(json.dumps([record]), encoding="utf-8")
        Path(folder, "keys.json").write_text(json.dumps({"ownward": key or site["key"]}), encoding="utf-8")
        environment = {**os.environ, "LLM_USER_PATH": folder}
        command = [str(Path(sys.executable).with_name("llm")), "-m", model, *argv, says]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-600:])
    return done.stdout.strip()


@cell("llm", "plain")
def _(site: Site, model: str) -> None:
    said = _llm(site, f"plain-{model}", "--no-stream", "-o", "max_tokens", "20")
    if model != "embedded":
        equal(said, SAID)


@cell("llm", "stream")
def _(site: Site, model: str) -> None:
    said = _llm(site, f"plain-{model}", "-o", "max_tokens", "20")
    if model != "embedded":
        equal(said, SAID)


@cell("llm", "tools")
def _(site: Site, model: str) -> None:
    function = "def look(query: str) -> str:\n    'Look something up'\n    return 'found ' + query\n"
    said = _llm(site, tier("tools", model), "--functions", function, *_LLM_BRIEFLY, says=PLEASE)
    is_said(said, model)


@cell("llm", "structured")
def _(site: Site, model: str) -> None:
    said = _llm(site, tier("form", model), "--schema", "name, people int", *_LLM_BRIEFLY)
    is_city(json.loads(said), model, {"name": "Bern", "people": 134000})


def _llm_fails(name: str, model_of: Callable[[str], str], word: str, key: str | None = None) -> None:
    @cell("llm", name)
    def _(site: Site, model: str) -> None:
        try:
            _llm(site, model_of(model), key=key)
        except RuntimeError as error:
            if word not in str(error):
                raise
            return
        raise AssertionError("it did not fail")


_llm_fails("401", lambda model: f"plain-{model}", "401", "ow-wrong")
_llm_fails("404", lambda _: "nobody", "404")
_llm_fails("429", lambda model: f"limited-{model}", "429")


# aider, a coding agent


@cell("aider", "edits a file")
def _(site: Site, model: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "greet.py")
        path.write_text('def greet():\n    return "hello"\n', encoding="utf-8")
        is_claude = model.startswith("by-messages-")
        tier = model.removeprefix("by-messages-")
        keys = {"OPENAI_API_KEY": site["key"], "OPENAI_API_BASE": f"{site['base_url']}/v1"}
        keys |= {"ANTHROPIC_API_KEY": site["key"], "ANTHROPIC_API_BASE": site["base_url"]}
        command = [
            str(Path(sys.executable).with_name("aider")), "--model",
            f"{'anthropic' if is_claude else 'openai'}/edit-{tier}", "--edit-format", "diff", "--message",
            "greet the world instead", "--yes-always", "--no-git", "--no-show-model-warnings", "--no-check-update",
            "--no-analytics", "--no-auto-lint", "--no-gitignore", "--map-tokens", "0", "--no-detect-urls",
            "--no-show-release-notes", "greet.py",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **keys, "HOME": folder}, capture_output=True, text=True,
            timeout=300, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        text = path.read_text(encoding="utf-8")
        if text != 'def greet():\n    return "hello world"\n':
            raise AssertionError(f"the file is {text!r}; aider said: {done.stdout[-1200:]} {done.stderr[-300:]}")
        return "the file was changed"


def main(client: str, site_file: str) -> None:
    """Run every cell of a client for every model, and print what came of it."""
    site: Site = json.loads(Path(site_file).read_text(encoding="utf-8"))
    for model in site["models"]:
        for name, run in CELLS[client].items():
            if name not in site["cells"].get(model, [name]):
                continue
            start_s, note, error = time.monotonic(), None, None
            try:
                note = run(site, model)
            except Exception as failure:  # noqa: BLE001 - whatever it is, it is the cell's result
                error = f"{type(failure).__name__}: {failure}"[:600]
                if "-v" in sys.argv:
                    traceback.print_exc()
            took_s = round(time.monotonic() - start_s, 2)
            result = {
                "client": client,
                "upstream": model,
                "cell": name,
                "error": error,
                "note": note,
                "seconds": took_s,
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
