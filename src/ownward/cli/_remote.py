"""A checkpoint elsewhere: its headers read by range requests, with progress on standard error where it takes long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ownward.cli._context import load_settings
from ownward.cli._output import progress, say
from ownward.core import BadInput, format_counted

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy

_QUIET_S = 1.0


def is_remote_name(name: str) -> bool:
    """Return whether a model is named by where it lies on a network: `hf:org/name`, or an address."""
    return name.startswith(("hf:", "https://", "http://"))


def read_remote(name: str) -> Anatomy:
    """Return the anatomy of a checkpoint on a hub or at an address, and say how little was read.

    Raises: BadInput, UnsupportedModel, FetchFailed; ConfigError, if a token is stated and not there.
    """
    from ownward import anatomy, config
    from ownward.engines import RemoteCheckpoint, parse_remote

    hub = load_settings().hub
    address = parse_remote(name, hub_url=hub.url)
    token = None if hub.token_env is None else config.resolve_secret(hub.token_env)
    with (
        _late_progress(f"reading headers of {address.name}") as on_received,
        RemoteCheckpoint(token=token, token_origin=hub.url.rstrip("/"), on_received=on_received) as checkpoint,
    ):
        for url in address.urls:
            found = checkpoint.find({url: 0})[0]
            if found is not None:
                model = anatomy.read_source(found, name=address.name)
                break
        else:
            raise BadInput(
                f"{name[:200]!r} holds none of: {', '.join(url.rpartition('/')[2] for url in address.urls)}",
                where=address.urls[0].rpartition("/")[0],
                next_step="Check the name; name another file of a model with: hf:org/name/file.gguf",
            )
    received = format_counted(checkpoint.received_bytes, "byte")
    say(f"read {received} in {format_counted(checkpoint.requests, 'request')}; no weights were downloaded")
    return model


@contextlib.contextmanager
def _late_progress(label: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that takes the bytes read so far and shows them once a second has passed."""
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        shown: list[Callable[[float], None]] = []

        def advance(done: float) -> None:
            if not shown and time.monotonic() - begun > _QUIET_S:
                shown.append(stack.enter_context(progress(label, total=None)))
            if shown:
                shown[0](done)

        yield advance
