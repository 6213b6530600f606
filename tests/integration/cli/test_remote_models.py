"""`ownward models show` of a checkpoint elsewhere; the hub is a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save

from ownward.cli._models import models

WEIGHTS = save({"model.embed_tokens.weight": np.zeros((100, 64), np.float16)})


@pytest.fixture
def hub() -> Iterator[str]:
    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body, status = b"", 404
            if self.path == "/org/tiny/resolve/main/model.safetensors":
                body, status = WEIGHTS, 206
            self.send_response(status)
            if body:
                self.send_header("content-range", f"bytes 0-{len(body) - 1}/{len(body)}")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_hub_name_shows_what_its_weights_hold(hub: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OWNWARD_HUB_URL", hub)
    result = CliRunner().invoke(models, ["show", "hf:org/tiny", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["name"] == "org/tiny"
    assert shown["checkpoint_params_exact"] == 6400
    assert "no weights were downloaded" in result.stderr


def test_a_hub_name_that_holds_nothing_is_refused(hub: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OWNWARD_HUB_URL", hub)
    result = CliRunner().invoke(models, ["show", "hf:org/other"])
    assert "holds none of" in str(result.exception)


def test_a_token_that_is_named_and_not_set_is_an_error(hub: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OWNWARD_HUB_URL", hub)
    monkeypatch.setenv("OWNWARD_HUB_TOKEN_ENV", "NO_SUCH_TOKEN")
    result = CliRunner().invoke(models, ["show", "hf:org/tiny"])
    assert "NO_SUCH_TOKEN is not set" in str(result.exception)
