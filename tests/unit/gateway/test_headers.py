"""Which headers travel on, and how those of one name are read as one."""

from ownward.gateway.headers import headers_for_client, headers_for_upstream, read_headers


def test_what_travels_to_an_upstream_is_listed():
    headers = {b"authorization": b"x", b"cookie": b"x", b"anthropic-beta": b"b", b"accept": b"*/*", b"user-agent": b"u"}
    assert dict(headers_for_upstream(headers, dialect="openai")) == {b"accept": b"*/*", b"anthropic-beta": b"b"}
    assert dict(headers_for_upstream({}, dialect="anthropic")) == {b"anthropic-version": b"2023-06-01"}
    # Whom a request is made for is the client's to say, as in the body; which workspace of ours is asked is not.
    headers = {b"anthropic-user-profile-id": b"p", b"anthropic-workspace-id": b"w", b"anthropic-version": b"v"}
    passed = {b"anthropic-user-profile-id": b"p", b"anthropic-version": b"v"}
    assert dict(headers_for_upstream(headers, dialect="anthropic")) == passed
    assert not dict(headers_for_upstream(headers, dialect="openai", is_translated=True))


def test_a_list_on_several_lines_is_one_list():
    """RFC 9110, section 5.3; of what is no list the last line counts."""
    listed = [(b"anthropic-beta", b"a, b"), (b"x-ownward-tier", b"one"), (b"anthropic-beta", b"c")]
    headers = read_headers([*listed, (b"x-ownward-tier", b"two")])
    assert headers == {b"anthropic-beta": b"a, b, c", b"x-ownward-tier": b"two"}


def test_what_travels_to_a_client_is_listed():
    headers = [
        (b"set-cookie", b"x"),
        (b"x-ratelimit-remaining", b"1"),
        (b"content-length", b"1"),
        (b"request-id", b"r"),
    ]
    assert headers_for_client(headers) == [(b"x-ratelimit-remaining", b"1"), (b"request-id", b"r")]
