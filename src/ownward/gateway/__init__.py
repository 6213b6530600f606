"""Run: one OpenAI-compatible endpoint that carries out the plan and writes the ledger.

It never loads what decides (planner, simulation, perf). `server` starts it, `working` several of it. A request is read
in `listening`; `app` finds its endpoint and `exchange` serves it: `holding` checks its key and limits, `placing` picks
its targets, `calling` calls them and writes the ledger's rows; `keeping` and `watching` hold what stays of it.
"""

from ownward.gateway.app import Gateway, Secrets
from ownward.gateway.asgi import ASGIApp
from ownward.gateway.listening.descriptors import require_descriptors
from ownward.gateway.listening.port import socket_of
from ownward.gateway.placing.engine_address import EngineAddress, address_of_message
from ownward.gateway.ready_file import ReadyFile
from ownward.gateway.server import GatewayServer, run_loop, serve_app
from ownward.gateway.settings import DEFAULT_PORT, GatewaySettings
from ownward.gateway.signals import has_started, heeded_signals
from ownward.gateway.watching.counting import Watcher
from ownward.gateway.watching.request_log import RequestLog
from ownward.gateway.watching.spans import SpanWriter, make_span_writer
from ownward.gateway.working.line import WorkerLine
from ownward.gateway.working.messages import settings_as_message, settings_of_message
from ownward.gateway.working.pool import WorkerPool, worker_command

__all__ = [
    "DEFAULT_PORT",
    "ASGIApp",
    "EngineAddress",
    "Gateway",
    "GatewayServer",
    "GatewaySettings",
    "ReadyFile",
    "RequestLog",
    "Secrets",
    "SpanWriter",
    "Watcher",
    "WorkerLine",
    "WorkerPool",
    "address_of_message",
    "has_started",
    "heeded_signals",
    "make_span_writer",
    "require_descriptors",
    "run_loop",
    "serve_app",
    "settings_as_message",
    "settings_of_message",
    "socket_of",
    "worker_command",
]
