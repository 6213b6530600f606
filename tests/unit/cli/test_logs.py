"""Lines of the log: their form, that nobody else can write one, and that a reader who does not read stops nothing."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time

import pytest

from ownward.cli._logs import JsonLines, OneLine, PatientHandler, announce, logging_to


@pytest.fixture
def logger():
    one = logging.getLogger("ownward.tests.logs")
    one.setLevel(logging.DEBUG)
    return one


def test_a_json_line_has_the_fields_of_a_request(logger):
    stream = io.StringIO()
    with logging_to(stream, level="info", form="json"):
        logger.info("done %s", "x", extra={"request": {"request_id": "req_1", "charge_usd": None}})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["message"], line["request_id"], line["charge_usd"]) == ("info", "done x", "req_1", None)
    assert line["at"].endswith("+00:00")


def test_a_traceback_stays_in_its_json_line(logger):
    stream = io.StringIO()
    with logging_to(stream, level="info", form="json"):
        try:
            int("no")
        except ValueError:
            logger.exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["traceback"]


@pytest.mark.parametrize("formatter", [OneLine(), JsonLines()])
def test_what_is_logged_cannot_write_a_line_of_its_own(formatter):
    said = 'name\n2026-11-21 ERROR all is lost \x1b[31m"}'
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (said,), None)
    text = formatter.format(record)
    assert "\n" not in text
    assert "\x1b" not in text


def test_the_level_holds(logger):
    stream = io.StringIO()
    logger.setLevel(logging.NOTSET)
    with logging_to(stream, level="warning", form="text"):
        logger.info("hidden")
        logger.warning("shown")
    assert "hidden" not in stream.getvalue()
    assert stream.getvalue().endswith("WARNING shown\n")


def test_what_people_are_told_at_the_start_is_a_line_of_a_json_log(capsys):
    stream = io.StringIO()
    with logging_to(stream, level="info", form="json"):
        announce("  ready at http://127.0.0.1:1")
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["level"], line["message"]) == ("info", "ready at http://127.0.0.1:1")
    assert capsys.readouterr().err == ""
    with logging_to(stream, level="info", form="text"):
        announce("  ready")
    assert capsys.readouterr().err == "  ready\n"


def test_a_reader_that_does_not_read_holds_nobody_up(logger):
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    stream = os.fdopen(writing, "w")
    handler = PatientHandler(stream, most=1000)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    try:
        began = time.monotonic()
        for _ in range(5000):
            logger.warning("x" * 1000)
        assert time.monotonic() - began < 5
        assert handler.dropped > 0
    finally:
        logger.removeHandler(handler)
        heard: list[bytes] = []
        reader = threading.Thread(target=lambda: heard.extend(iter(lambda: os.read(reading, 65536), b"")))
        reader.start()
        handler.close()
        stream.close()
        reader.join(5)
        os.close(reading)
    assert b"lines of this log were dropped" in b"".join(heard)


def test_a_reader_that_is_gone_is_no_error(logger):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, logging_to(stream, level="info", form="text"):
        logger.warning("into the void")


def test_workers_that_share_a_pipe_do_not_tear_each_others_lines(logger):
    reading, writing = os.pipe()
    streams = [os.fdopen(os.dup(writing), "w") for _ in range(2)]
    os.close(writing)
    handlers = [PatientHandler(stream) for stream in streams]
    lines = [letter * 300 for letter in "ab"]
    for _ in range(2000):  # more than the pipe holds, so that both wait in the middle of what they write
        for handler, line in zip(handlers, lines, strict=True):
            handler.emit(logging.makeLogRecord({"msg": line}))
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.extend(iter(lambda: os.read(reading, 5000), b"")))
    time.sleep(0.2)
    reader.start()
    for handler, stream in zip(handlers, streams, strict=True):
        handler.close()
        stream.close()
    reader.join(5)
    os.close(reading)
    written = b"".join(heard).decode().splitlines()
    assert len(written) == 4000
    assert set(written) == set(lines)


def test_a_pipe_that_does_not_block_loses_no_line_unsaid(logger):
    """As some programs hand theirs to those that they start."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    stream = os.fdopen(writing, "w")
    handler = PatientHandler(stream)
    for number in range(2000):  # more than the pipe holds
        handler.emit(logging.makeLogRecord({"msg": f"{number} {'x' * 300}"}))
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.extend(iter(lambda: os.read(reading, 65536), b"")))
    time.sleep(0.2)
    reader.start()
    handler.close()
    stream.close()
    reader.join(5)
    os.close(reading)
    assert [int(line.split()[0]) for line in b"".join(heard).decode().splitlines()] == list(range(2000))
