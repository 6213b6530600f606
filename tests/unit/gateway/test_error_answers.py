"""Errors as answers: a status and a body for each, in both dialects."""

import json

import pytest

from ownward.core import (
    BadInput,
    BrokenStream,
    EngineNotReady,
    LedgerError,
    OwnwardError,
    PolicyRefusal,
    RateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from ownward.gateway.error_answers import body_of, status_of, stream_event_of
from ownward.gateway.errors import (
    BodyTooLarge,
    BodyTooLate,
    Draining,
    ForeignPage,
    GapInConversation,
    Incapable,
    InternalError,
    MalformedRequest,
    NoUpstream,
    OutOfScope,
    OverBudget,
    OverLimit,
    Overloaded,
    PackedBody,
    Rejected,
    Threadless,
    TooManyInFlight,
    Unauthorized,
    UnboundedCharge,
    UnknownPath,
    UnknownPreviousResponse,
    UnknownResponse,
    UnknownRoute,
    UnknownTask,
    UpstreamCredentials,
    UpstreamUnpaid,
    WorkersSilent,
)

EXAMPLES = [
    (UnknownPath("GET", "/x", allowed_methods=(), paths=("/v1/models",)), 404),
    (UnknownPath("GET", "/v1/chat", allowed_methods=("POST",), paths=()), 405),
    (MalformedRequest("m"), 400),
    (BodyTooLarge(limit_bytes=1), 413),
    (PackedBody(b"br"), 415),
    (BodyTooLate(limit_s=1.0), 408),
    (Unauthorized(), 401),
    (OutOfScope("m"), 403),
    (ForeignPage(), 403),
    (InternalError(), 500),
    (UnknownRoute("x", ("y",)), 404),
    (UnknownTask("t"), 404),
    (UnknownResponse("r" * 99, keeps=True), 404),
    (UnknownPreviousResponse("r"), 400),
    (GapInConversation("r"), 400),
    (Incapable("m"), 400),
    (Threadless("w", "t"), 400),
    (OverBudget("m", allowed=None, next_step="n", retry_after_s=None, of="key"), 429),
    (OverLimit("m", allowed=None, wait_s=0.5, states=()), 429),
    (UnboundedCharge("workload", "w", tier="t"), 403),
    (Overloaded("t", queued=1, limit=1, waited_s=0), 503),
    (TooManyInFlight(limit=1), 503),
    (WorkersSilent(waited_s=3.0), 503),
    (NoUpstream("m", retry_after_s=1), 503),
    (Draining(), 503),
    (PolicyRefusal("m"), 403),
    (RateLimited("m", retry_after_s=3), 429),
    (UpstreamTimeout("m"), 504),
    (UpstreamUnreachable("m"), 502),
    (UpstreamRefused("m", status=404), 404),
    (UpstreamCredentials("m"), 502),
    (UpstreamUnpaid("m"), 502),
    (BrokenStream("m"), 502),
    (EngineNotReady("m"), 503),
    (LedgerError("m"), 503),
    (BadInput("m"), 400),
    (OwnwardError("m"), 500),
]


@pytest.mark.parametrize(("error", "status"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_every_error_has_a_status_and_a_body_in_both_dialects(error, status):
    assert status_of(error) == status
    openai = json.loads(body_of(error, "openai", request_id="r"))["error"]
    assert openai["message"] == str(error)
    assert {"type", "param", "code", "where", "allowed", "next", "request_id"} <= openai.keys()
    anthropic = json.loads(body_of(error, "anthropic", request_id="r"))
    assert anthropic["type"] == "error"
    assert {"type", "message"} <= anthropic["error"].keys()


def test_the_bare_address_tells_of_the_pages_as_what_only_some_gateways_have():
    """A gateway beyond loopback has none, nor one without the extra: nobody is sent to another 404."""
    told = UnknownPath("GET", "/", allowed_methods=(), paths=("/v1/models",)).next_step
    assert told.startswith("On loopback, with the extra pages,")
    assert "/dashboard" in told


def test_anthropics_clients_are_told_to_go_on_without_a_thread():
    told = json.loads(body_of(Threadless("w", "t"), "anthropic"))["error"]
    assert told["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


def test_every_class_of_rejection_is_among_the_examples():
    def all_of(cls):
        return {sub for direct in cls.__subclasses__() for sub in ({direct} | all_of(direct))}

    assert all_of(Rejected) == {type(error) for error, _ in EXAMPLES if isinstance(error, Rejected)}


@pytest.mark.parametrize(
    ("dialect", "endpoint"),
    [("openai", "/v1/chat/completions"), ("openai", "/v1/responses"), ("anthropic", "/v1/messages")],
)
def test_a_stream_ends_with_one_whole_event_even_inside_another(dialect, endpoint):
    event = stream_event_of(Draining(), dialect, endpoint=endpoint)
    _, last, rest = (b'data: {"half": "an eve' + event).split(b"\n\n")
    assert rest == b""
    assert "stopping" in json.dumps(json.loads(last.split(b"data: ")[1]))
    assert b"[DONE]" not in event


def test_an_unknown_tier_and_an_unknown_model_are_told_apart_and_long_lists_end_with_a_count():
    names = tuple(f"n{number}" for number in range(12))
    assert "header x-ownward-tier" in UnknownRoute("zz", names, what="tier").message
    assert "no workload, tier or model" in UnknownRoute("zz", names).message
    assert str(UnknownRoute("zz", names).allowed).endswith("'n7' and 4 more")
