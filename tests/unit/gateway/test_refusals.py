"""Which refusals are about the account that we pay by; bodies as services document them, or were seen."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from ownward.gateway.calling.refusals import (
    asks_for_less,
    find_unknown,
    is_of_request,
    is_unpaid,
    knows_no_effort,
    wait_of,
)

ANTHROPIC = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
LIMITED = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
OPENAI = "You exceeded your current quota, please check your plan and billing details."
XAI = "Your team 16f2151a-40f4-4a80-8ad0-cae00c27e8dd has either used all available credits or reached its monthly"
FIREWORKS = "Account acme is suspended, possibly due to reaching the monthly spending limit or failure to pay"
MOONSHOT = "Your account org-1 <ak-2> is suspended due to insufficient balance, please recharge your account"
AFFORD = "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only"


def invalid(message):
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


UNPAID = [
    (400, invalid(ANTHROPIC)),
    (400, invalid(LIMITED)),
    (402, {"type": "error", "error": {"type": "billing_error", "message": "m"}}),
    (402, {"error": {"message": "Insufficient Balance"}}),
    (402, None),
    (429, {"error": {"message": OPENAI, "type": "insufficient_quota", "code": "insufficient_quota", "param": None}}),
    (429, {"error": {"message": OPENAI, "type": "insufficient_quota", "code": None, "param": None}}),
    (429, {"error": {"message": "m", "type": "billing_not_active", "code": "billing_not_active"}}),
    (400, {"error": {"message": "m", "type": "invalid_request_error", "code": "billing_hard_limit_reached"}}),
    (429, {"error": {"message": MOONSHOT, "type": "exceeded_current_quota_error"}}),
    (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}),
    (429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}),
    (400, {"error": {"code": "Arrearage", "type": "Arrearage", "message": "Access denied"}}),
    (412, {"error": {"message": f"{FIREWORKS} past invoices.", "code": "PRECONDITION_FAILED", "type": "error"}}),
    (403, {"code": "permission-denied", "error": f"{XAI} spending limit. To continue"}),
    (403, {"code": "permission-denied", "error": "Your newly created teams doesn't have any credits yet. You can"}),
    (403, {"code": "permission-denied", "error": "Your newly created team doesn't have any credits yet. You can"}),
    (429, {"code": "x", "error": f"{XAI.replace('monthly', 'monthly spending limit')}"}),
]


@pytest.mark.parametrize(("status", "body"), UNPAID)
def test_an_account_without_credit_is_recognised(status, body):
    told = b"Payment required" if body is None else json.dumps(body).encode()
    assert is_unpaid(status, told)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, invalid(f"messages.0: unexpected value: {ANTHROPIC}")),
        (400, invalid(f"model: {LIMITED}")),
        (400, {"error": {"message": f"Invalid value: '{XAI} spending limit'", "code": "invalid_value"}}),
        (400, {"error": {"message": "m", "param": "insufficient_quota", "code": "insufficient_quota_of_x"}}),
        (404, invalid(ANTHROPIC)),
        (500, {"error": {"type": "insufficient_quota"}}),
        (400, [1]),
        (400, {"error": ["insufficient_quota"]}),
        (400, {"error": {"code": ["insufficient_quota"], "message": {"a": ANTHROPIC}}}),
    ],
)
def test_what_a_client_can_make_an_error_quote_is_nothing_of_the_account(status, body):
    assert not is_unpaid(status, json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"\xff", b"null", b"[]", b"[" * 100_000, b'{"error": "x"}' + b" " * (1 << 17)])
def test_what_cannot_be_read_is_nothing_of_the_account(body):
    assert not is_unpaid(400, body)


def test_a_limit_on_geminis_rate_is_none_of_its_account():
    """The words are those of OpenAI for an account without credit, and it lists its errors."""
    error = {"code": 429, "message": OPENAI, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "38.5s"}]}
    body = json.dumps([{"error": error}]).encode()
    assert not is_unpaid(429, body)
    assert wait_of(Said(), body, now=NOW) == 38.5


def test_a_request_that_is_too_large_for_what_is_left_leaves_the_account_in_use():
    body = json.dumps({"error": {"message": f"{AFFORD} afford 4000", "code": 402}}).encode()
    assert asks_for_less(402, body)
    assert not is_unpaid(402, body)
    assert not asks_for_less(400, body)


class Said:
    def __init__(self, **headers):
        self._headers = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}

    def header(self, name):
        return self._headers.get(name)


NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        (Said(), None),
        (Said(retry_after="2"), 2),
        (Said(retry_after="Sat, 21 Nov 2026 12:00:09 GMT"), 9),
        (Said(retry_after="soon"), None),
        (Said(retry_after="-1"), None),
        (Said(retry_after="inf"), None),
        (Said(retry_after="1", retry_after_ms="250"), 0.25),
        (Said(retry_after="1", retry_after_ms="x"), 1),
    ],
)
def test_how_long_a_refusal_asks_to_wait(said, wait_s):
    assert wait_of(said, b"{}", now=NOW) == wait_s


EXTRA = {"type": "extra_forbidden", "loc": ["body", "reasoning_effort"], "msg": "Extra inputs are not permitted"}
UNKNOWN = "Unrecognized request argument supplied: reasoning_effort"


@pytest.mark.parametrize(
    ("body", "is_unknown"),
    [
        (invalid(UNKNOWN), True),
        (invalid("Unsupported parameter: 'reasoning_effort' is not supported with this model."), True),
        (invalid("`reasoning_effort` is not supported with this model"), True),
        ({"detail": [EXTRA]}, True),
        ({"object": "error", "message": {"detail": [EXTRA]}}, True),
        (invalid(f"Invalid value: '{UNKNOWN}'"), False),  # an error that quotes a request
        (invalid("Unsupported value: 'reasoning_effort' does not support 'none' with this model."), False),
        ({"detail": [{**EXTRA, "type": "literal_error"}, {**EXTRA, "loc": ["body", "user"]}, 7]}, False),
        (invalid(None), False),
        ([1], False),
    ],
)
def test_a_model_without_effort_is_told_from_one_that_takes_others(body, is_unknown):
    assert knows_no_effort(json.dumps(body).encode()) is is_unknown


SPARED = ("include", "reasoning.summary", "reasoning.effort")
UNVERIFIED = "Your organization must be verified to generate reasoning summaries. Please go to: (an address)"


@pytest.mark.parametrize(
    ("message", "param", "expected"),
    [
        ("Encrypted content is not supported with this model.", None, "include"),
        ("Encrypted content is not supported with this model.", "include", "include"),
        (UNVERIFIED, "reasoning.summary", "reasoning.summary"),
        ("Unsupported parameter: 'reasoning.summary' is not supported.", "reasoning.summary", "reasoning.summary"),
        ("Unsupported parameter: 'reasoning.effort' is not supported.", "reasoning.effort", "reasoning.effort"),
        ("Unsupported value: 'none' is not supported.", "reasoning.effort", None),
        ("Unsupported parameter: 'temperature' is not supported with this model.", "temperature", None),
        ("The encrypted content could not be verified.", "input", None),
        (None, None, None),
    ],
)
def test_what_a_model_does_not_know_of_a_response_is_found_where_it_can_be_spared(message, param, expected):
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param}}).encode()
    assert find_unknown(body, SPARED) == expected
    assert find_unknown(body, ()) is None


@pytest.mark.parametrize(
    ("status", "message", "is_so"),
    [
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", True),
        (500, "audio input is not supported - hint: if this is unexpected, you may need to provide the mmproj", True),
        (500, 'Failed to parse messages: Missing \'role\' in message: {"content":"x"}', True),
        (500, 'Failed to parse tools: Missing tool function: {"type":"function"}', True),
        (500, "input (601 tokens) is too large to process. increase the physical batch size", True),
        (500, "the current context does not support logits computation. skipping", True),
        (500, "system message must be at the beginning", True),
        (500, "Compute error.", False),
        (500, "out of memory: image input is not supported", False),
        (503, "image input is not supported", False),
        (500, None, False),
    ],
)
def test_a_server_error_that_is_about_the_one_request_is_told_from_ill_health(status, message, is_so):
    """As llama.cpp (b11549) words them, which has 500 for what a request may not say."""
    body = {"error": {"code": status, "message": message, "type": "server_error"}}
    assert is_of_request(status, json.dumps(body).encode()) is is_so
