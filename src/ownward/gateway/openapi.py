"""What this endpoint takes and gives, as an OpenAPI 3.1 document, written by hand and built when it is first asked for.

It is exact about what the gateway itself reads and answers. What upstreams understand passes through, so that further
members are allowed everywhere and answers are described no further than their dialect's outline.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

from ownward import __version__
from ownward.ledger import OutcomeSource

_Json = dict[str, Any]

_NAME = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.:@/+-]{0,127}$"}
_LABEL_WORD = r"(?:site|(?:region:)?[a-z0-9][a-z0-9._-]{0,63}|provider:[a-z0-9][a-z0-9._-]{0,63})"
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_RESPONSE_ID = {"type": "string", "pattern": "^resp_[0-9a-f]{48}$"}


@cache
def document_bytes() -> bytes:
    """Return the document as `GET /openapi.json` gives it."""
    return json.dumps(build_document(), ensure_ascii=False).encode()


def build_document() -> _Json:
    """Return the document as plain values."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ownward",
            "version": __version__,
            "summary": "One endpoint over models you own and APIs you rent",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"x_api_key": []}, {}],
        "paths": {**_inference_paths(), **_other_paths()},
        "components": {
            "schemas": _schemas(),
            "parameters": _parameters(),
            "headers": _answer_headers(),
            "responses": _responses(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": _KEY},
                "x_api_key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": _KEY},
            },
        },
    }


_KEY = "A key of `ownward keys create`, where the gateway demands one"
_PASSES = "Members that are not listed pass on to the upstream unchanged."
_REFUSALS = {
    "400": "Malformed",
    "401": "Unauthorized",
    "403": "Forbidden",
    "404": "NotFound",
    "408": "BodyLate",
    "413": "TooLarge",
    "415": "Packed",
    "429": "TooMuch",
    "500": "Fault",
    "502": "BadUpstream",
    "503": "Unavailable",
    "504": "Late",
}


def _inference_paths() -> _Json:
    return {
        "/v1/chat/completions": _inference("createChatCompletion", "ChatRequest", "ChatAnswer", "OpenAIError"),
        "/v1/completions": _inference("createCompletion", "CompletionRequest", "CompletionAnswer", "OpenAIError"),
        "/v1/responses": _inference("createResponse", "ResponsesRequest", "ResponsesAnswer", "OpenAIError"),
        "/v1/embeddings": _inference(
            "createEmbedding", "EmbeddingsRequest", "EmbeddingsAnswer", "OpenAIError", streams=False
        ),
        "/v1/messages": _inference("createMessage", "MessagesRequest", "MessagesAnswer", "AnthropicError"),
        "/v1/messages/count_tokens": _inference(
            "countMessageTokens", "MessagesRequest", "TokenCount", "AnthropicError", streams=False
        ),
    }


def _inference(operation: str, asked: str, answered: str, error: str, *, streams: bool = True) -> _Json:
    content = {"application/json": {"schema": _ref("schemas", answered)}}
    if streams:
        content["text/event-stream"] = {}  # server-sent events, as the dialect has them
    parameters = ["Workload", "Tier", "Label", "Task", "TaskBudget"]
    if error == "AnthropicError":
        parameters.append("AnthropicVersion")
    return {
        "post": {
            "operationId": operation,
            "description": _PASSES,
            "parameters": [_ref("parameters", name) for name in parameters],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _ref("schemas", asked)}},
            },
            "responses": {
                "200": {
                    "description": "The upstream's answer",
                    "headers": {name: _ref("headers", name) for name in _answer_headers()},
                    "content": content,
                },
                **{status: _ref("responses", f"{name}{error}") for status, name in _REFUSALS.items()},
                "4XX": _ref("responses", f"Upstream{error}"),
            },
        }
    }


def _other_paths() -> _Json:
    models = {"oneOf": [_ref("schemas", "ModelList"), _ref("schemas", "AnthropicModelList")]}
    model = {"oneOf": [_ref("schemas", "Model"), _ref("schemas", "AnthropicModel")]}
    needs_key = {  # which the ledger has
        "400": _either("Malformed"),
        "401": _either("Unauthorized"),
        "403": _either("Forbidden"),
        "503": _either("Unavailable"),
    }
    return {
        "/v1/models": {
            "get": {
                "operationId": "listModels",
                "parameters": [_ref("parameters", "AnthropicVersion")],
                "responses": {"200": _json("Every name that `model` may have", models), **needs_key},
            }
        },
        **_kept_paths(needs_key),
        "/v1/models/{name}": {
            "get": {
                "operationId": "readModel",
                "parameters": [
                    {"name": "name", "in": "path", "required": True, "schema": _TEXT},
                    _ref("parameters", "AnthropicVersion"),
                ],
                "responses": {
                    "200": _json("What the name stands for", model),
                    "404": _either("NotFound"),
                    **needs_key,
                },
            }
        },
        "/v1/tasks/{task}/outcome": {
            "post": {
                "operationId": "recordOutcome",
                "parameters": [{"name": "task", "in": "path", "required": True, "schema": _TEXT}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _ref("schemas", "Outcome")}},
                },
                "responses": {
                    "200": _json("It is on the ledger", _ref("schemas", "RecordedOutcome")),
                    "404": _either("NotFound"),
                    "408": _either("BodyLate"),
                    "413": _either("TooLarge"),
                    "415": _either("Packed"),
                    **needs_key,
                },
            }
        },
        "/metrics": {
            "get": {
                "operationId": "readMetrics",
                "responses": {
                    "200": {
                        "description": "Prometheus' text form",
                        "content": {"text/plain": {"schema": _TEXT}},
                    },
                    **needs_key,
                },
            }
        },
        "/healthz": {"get": _health("isAlive", "The process serves")},
        "/readyz": {
            "get": {
                **(ready := _health("isReady", "Requests are taken and an upstream can be used")),
                "responses": {
                    **ready["responses"],
                    "503": _json("Not now", _ref("schemas", "Health")),
                },
            }
        },
        "/openapi.json": {
            "get": {
                "operationId": "readThisDocument",
                "security": [{}],
                "responses": {"200": _json("This document", {"type": "object"})},
            }
        },
    }


def _kept_paths(needs_key: _Json) -> _Json:
    """Return the paths of responses that are kept for clients that continue or fetch them."""
    name = {"name": "response", "in": "path", "required": True, "schema": _TEXT}
    refusals = {"404": _either("NotFound"), **needs_key}

    def query(of: str, schema: _Json) -> _Json:
        return {"name": of, "in": "query", "required": False, "schema": schema}

    pages = (
        query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
        query("order", {"enum": ["asc", "desc"], "default": "desc"}),
        query("after", _TEXT),
    )
    return {
        "/v1/responses/{response}": {
            "get": {
                "operationId": "readResponse",
                "parameters": [name],
                "responses": {
                    "200": _json("The response as it was answered", _ref("schemas", "KeptResponse")),
                    **refusals,
                },
            },
            "delete": {
                "operationId": "deleteResponse",
                "parameters": [name],
                "responses": {"200": _json("It is gone for good", _ref("schemas", "DeletedResponse")), **refusals},
            },
        },
        "/v1/responses/{response}/input_items": {
            "get": {
                "operationId": "listInputItems",
                "parameters": [name, *pages],
                "responses": {"200": _json("What it was computed from", _ref("schemas", "InputItems")), **refusals},
            }
        },
    }


def _health(operation: str, description: str) -> _Json:
    return {
        "operationId": operation,
        "security": [{}],
        "responses": {"200": _json(description, _ref("schemas", "Health"))},
    }


def _responses() -> _Json:
    meanings = {
        "Malformed": "The body or a header cannot be read, or no tier can do what is asked; nothing was sent",
        "Unauthorized": "No valid key, where one is demanded; the same words for whatever was wrong",
        "Forbidden": "Label, scope or budget do not allow it, or a web page of another place asks; nothing was sent",
        "NotFound": "Nothing has this name",
        "BodyLate": "The body did not arrive in time",
        "TooLarge": "The body is above the limit",
        "Packed": "The body is compressed (`content-encoding`)",
        "TooMuch": "A budget, a limit or every upstream says: later. `retry-after` says when, where that is known",
        "Fault": "The upstream's own failure in its own words, or a fault of the gateway's (`internal_error`)",
        "BadUpstream": "The upstream failed before the first byte, and so did every other that may be asked",
        "Unavailable": "No upstream can take it now, the gateway is full or stops, or the ledger cannot be written",
        "Late": "The upstream did not answer in time",
        "Upstream": "The upstream's own refusal, in its own words",
    }
    built: _Json = {}
    for name, description in meanings.items():
        for error in ("OpenAIError", "AnthropicError"):
            schema: _Json = _ref("schemas", error)
            if name in {"Upstream", "Fault"}:
                schema = {"description": "What the upstream said"}
            built[f"{name}{error}"] = _refusal(description, schema, is_wordless=name == "Upstream")
        either = {"anyOf": [_ref("schemas", "OpenAIError"), _ref("schemas", "AnthropicError")]}
        if name != "Upstream":
            built[name] = _refusal(description, either)
    return built


def _refusal(description: str, schema: _Json, *, is_wordless: bool = False) -> _Json:
    content = {"application/json": {"schema": schema}}
    if is_wordless:
        content["*/*"] = {"schema": schema}
    headers = {"retry-after": {"schema": {"type": "string"}, "description": "Seconds to wait"}}
    return {"description": description, "headers": headers, "content": content}


def _either(name: str) -> _Json:
    return _ref("responses", name)


def _json(description: str, schema: _Json) -> _Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(kind: str, name: str) -> _Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _parameters() -> _Json:
    def header(name: str, schema: _Json, description: str) -> _Json:
        return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}

    label = {
        "type": "string",
        "pattern": rf"^(?:any|local_only|{_LABEL_WORD}(?:\+{_LABEL_WORD})?(?:\|{_LABEL_WORD})*)$",
        "examples": ["local_only", "eu", "eu|provider:mistral"],
    }
    return {
        "Workload": header("x-ownward-workload", _NAME, "The workload, by name"),
        "Tier": header("x-ownward-tier", _NAME, "One tier, by name"),
        "Label": header("x-ownward-label", label, "Where the data may go; only ever shrinks what the plan allows"),
        "Task": header("x-ownward-task", _NAME, "The task that this request belongs to"),
        "TaskBudget": header(
            "x-ownward-task-budget",
            {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,12})?$", "examples": ["0.50"]},
            "The most that the task may be charged, in dollars; only ever lowers what the plan allows",
        ),
        "AnthropicVersion": header(
            "anthropic-version",
            {"type": "string", "pattern": "^[0-9-]{1,32}$"},
            "As clients of Anthropic send it; lists are in that form then",
        ),
    }


def _answer_headers() -> _Json:
    number = {"type": "string", "pattern": "^[0-9]+$"}
    described = {
        "x-ownward-request-id": ("The request's id on the ledger", {"type": "string", "pattern": "^req_[0-9A-Z]{26}$"}),
        "x-ownward-workload": ("The workload it was counted as", _TEXT),
        "x-ownward-tier": ("The tier that answered", _TEXT),
        "x-ownward-upstream": ("The upstream that answered", _TEXT),
        "x-ownward-attempts": ("Calls made, the last one included", number),
        "x-ownward-hedge": (
            "Where a second call was sent beside a late one: whether its answer came first",
            {"type": "string", "enum": ["won", "lost"]},
        ),
        "x-ownward-total-input-tokens": ("Where there were several calls: what all of them used", number),
        "x-ownward-total-output-tokens": ("Where there were several calls: what all of them used", number),
        "x-ownward-reason": ("Why it went there", _TEXT),
        "x-ownward-translated": ("Where the answer was translated: from which dialect to which", _TEXT),
        "x-ownward-left-out": ("Hints of the request that the upstream was not told", _TEXT),
        "x-ownward-assumed": ("What was said for the request as neither it nor the plan does", _TEXT),
    }
    return {name: {"description": description, "schema": schema} for name, (description, schema) in described.items()}


def _object(required: tuple[str, ...] = (), **properties: Any) -> _Json:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": True}


def _schemas() -> _Json:
    return {**_request_schemas(), **_answer_schemas(), **_own_schemas()}


def _request_schemas() -> _Json:
    message = _object(("role", "content"), role=_TEXT, content={"type": ["string", "array", "null"]})
    choosing = {
        "model": {"type": "string", "description": "A workload, tier or model of the plan: see GET /v1/models"},
        "stream": {"type": ["boolean", "null"], "description": "Whether the answer comes as server-sent events"},
        "metadata": {"type": ["object", "null"], "description": "A plan may match on members that are text"},
    }
    return {
        "ChatRequest": _object(
            ("model", "messages"), **choosing, messages={"type": "array", "items": message, "minItems": 1}
        ),
        "CompletionRequest": _object(("model", "prompt"), **choosing, prompt={"type": ["string", "array"]}),
        "ResponsesRequest": _object(
            ("model", "input"),
            **choosing,
            input={"type": ["string", "array"]},
            store={"type": ["boolean", "null"], "description": "Whether it is kept, where the gateway keeps any"},
            previous_response_id={"type": ["string", "null"], "description": "The response that this one continues"},
            background={"enum": [False, None]},
        ),
        "EmbeddingsRequest": _object(
            ("model", "input"), model=choosing["model"], input={"type": ["string", "array"]}
        ),
        "MessagesRequest": _object(
            ("model", "messages"),
            **choosing,
            max_tokens={"type": "integer", "minimum": 1},
            messages={"type": "array", "items": message, "minItems": 1},
        ),
    }  # fmt: skip


def _answer_schemas() -> _Json:
    choices = {"type": "array", "items": {"type": "object"}}
    return {
        "ChatAnswer": _object(("choices",), id=_TEXT, choices=choices, usage={"type": ["object", "null"]}),
        "CompletionAnswer": _object(("choices",), id=_TEXT, choices=choices, usage={"type": ["object", "null"]}),
        "ResponsesAnswer": _object(("output",), id=_TEXT, output={"type": "array"}, status=_TEXT),
        "EmbeddingsAnswer": _object(("data",), data={"type": "array"}),
        "MessagesAnswer": _object(("content",), id=_TEXT, content={"type": "array"}, usage={"type": "object"}),
        "TokenCount": _object(("input_tokens",), input_tokens=_COUNT),
    }


def _own_schemas() -> _Json:
    parts = {
        "ownward_kind": {"type": "string", "description": "What failed; docs/reference/gateway.md lists them"},
        "where": {"type": ["string", "null"]},
        "allowed": {"type": ["string", "null"], "description": "What would be allowed"},
        "next": {"type": ["string", "null"], "description": "What to do"},
        "request_id": {"type": ["string", "null"]},
    }
    stated = ("message", "type")
    openai = _object(stated, message=_TEXT, type=_TEXT, param={}, code={"type": ["string", "integer", "null"]}, **parts)
    return {
        "OpenAIError": _object(("error",), error=openai),
        "AnthropicError": _object(
            ("type", "error"),
            type={"const": "error"},
            error=_object(stated, message=_TEXT, type=_TEXT, **parts),
            request_id={"type": ["string", "null"]},
        ),
        "Model": {
            **_object(
                ("id", "object", "kind", "tiers"),
                id=_TEXT,
                object={"const": "model"},
                created=_COUNT,
                owned_by=_TEXT,
                kind={"enum": ["workload", "tier", "model"]},
                tiers={"type": "array", "items": _TEXT},
            ),
        },
        "AnthropicModel": _object(
            ("type", "id"), type={"const": "model"}, id=_TEXT, display_name=_TEXT, created_at=_TEXT
        ),
        "ModelList": _object(
            ("object", "data"),
            object={"const": "list"},
            data={"type": "array", "items": _ref("schemas", "Model")},
        ),
        "AnthropicModelList": {
            **_object(
                ("data", "has_more", "first_id", "last_id"),
                data={"type": "array", "items": _ref("schemas", "AnthropicModel")},
                has_more={"type": "boolean"},
                first_id=_TEXT,
                last_id=_TEXT,
            ),
            "not": {"required": ["object"]},
        },
        "Outcome": {
            "type": "object",
            "required": ["completed"],
            "additionalProperties": False,
            "properties": {
                "completed": {"type": "boolean"},
                "source": {"enum": list(get_args(OutcomeSource)), "default": "user"},
                "score": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                "human_minutes": {"type": ["number", "null"], "minimum": 0},
                "comment": {"type": "string", "default": ""},
            },
        },
        "KeptResponse": _object(
            ("id", "object", "output", "status", "store"),
            id=_RESPONSE_ID,
            object={"const": "response"},
            output={"type": "array"},
            status={"enum": ["completed", "incomplete"]},
            store={"const": True},
            previous_response_id={"type": ["string", "null"]},
        ),
        "DeletedResponse": _object(
            ("id", "object", "deleted"), id=_RESPONSE_ID, object={"const": "response"}, deleted={"const": True}
        ),
        "InputItems": _object(
            ("object", "data", "has_more", "first_id", "last_id"),
            object={"const": "list"},
            data={"type": "array", "items": _object(("id", "type"), id=_TEXT, type=_TEXT)},
            has_more={"type": "boolean"},
            first_id={"type": ["string", "null"]},
            last_id={"type": ["string", "null"]},
        ),
        "RecordedOutcome": _object(
            ("task_id", "source", "completed"), task_id=_TEXT, source=_TEXT, completed={"type": "boolean"}
        ),
        "Health": _object(
            ("status",),
            status={"enum": ["ok", "ready", "not ready"]},
            why=_TEXT,
            unpaid_upstreams={"type": "integer", "minimum": 1},
        ),
    }
