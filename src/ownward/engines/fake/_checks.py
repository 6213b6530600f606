"""What the fake demands of a conversation, as the services that it imitates do."""

from __future__ import annotations

from typing import Any

from ownward.engines.fake._call import sign


def ends_with_results(asked: dict[str, Any]) -> bool:
    """Return whether the last message holds what called tools gave, in any dialect."""
    messages = asked.get("messages") or asked.get("input")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict):
        return False
    if last.get("role") == "tool" or last.get("type") == "function_call_output":
        return True
    return any(block.get("type") == "tool_result" for block in _blocks(last))


def check_thinking(asked: dict[str, Any]) -> None:
    """Refuse a messages request whose thinking is not what was thought here, or that lost it while a tool ran.

    Raises: ValueError.
    """
    messages = [message for message in asked.get("messages") or () if isinstance(message, dict)]
    for index, message in enumerate(messages):
        for place, block in enumerate(_blocks(message)):
            if block.get("type") == "thinking" and block.get("signature") != sign(str(block.get("thinking"))):
                raise ValueError(f"messages.{index}.content.{place}: invalid signature in a thinking block")
    if len(messages) > 1 and ends_with_results(asked):
        blocks = _blocks(messages[-2])
        if not blocks or blocks[0].get("type") not in {"thinking", "redacted_thinking"}:
            raise ValueError(f"messages.{len(messages) - 2}.content.0.type: expected thinking or redacted_thinking")


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
