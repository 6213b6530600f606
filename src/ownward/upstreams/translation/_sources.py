"""The pages that an answer cites, in each dialect: models that search cite without being asked.

Chat completions have `annotations` beside the text, responses within its part, and messages `citations` of a block.
"""

from __future__ import annotations

from typing import Any

from ownward.upstreams.translation._core import Source


def read_sources(annotations: object) -> list[Source]:
    """Return the pages among the annotations of a chat message, or of a piece of one."""
    found = []
    for entry in annotations if isinstance(annotations, list) else []:
        cited = entry.get("url_citation") if isinstance(entry, dict) else None
        if isinstance(cited, dict) and isinstance(cited.get("url"), str):
            title, start, end = cited.get("title"), cited.get("start_index"), cited.get("end_index")
            found.append(
                Source(
                    url=cited["url"],
                    title=title if isinstance(title, str) else "",
                    start=start if type(start) is int else 0,
                    end=end if type(end) is int else 0,
                )
            )
    return found


def read_page(annotation: object) -> Source | None:
    """Return the page that an annotation of a response's text cites; None where it is of something else."""
    found = read_sources([{"url_citation": annotation}])
    is_page = isinstance(annotation, dict) and annotation.get("type") == "url_citation"
    return found[0] if is_page and found else None


def read_citations(citations: object, text: str = "") -> list[Source]:
    """Return the pages among the citations of a message's block, each for the whole of its text."""
    found = []
    for entry in citations if isinstance(citations, list) else [citations]:
        if isinstance(entry, dict) and isinstance(entry.get("url"), str):
            title = entry.get("title")
            found.append(Source(url=entry["url"], title=title if isinstance(title, str) else "", end=len(text)))
    return found


def chat_annotation_of(source: Source, before: int = 0) -> dict[str, Any]:
    """Return an annotation of a chat message, whose text has `before` characters before the one that cites."""
    place = {"start_index": before + source.start, "end_index": before + source.end}
    return {"type": "url_citation", "url_citation": {**place, "url": source.url, "title": source.title}}


def annotation_of(source: Source) -> dict[str, Any]:
    """Return an annotation of a response's text."""
    place = {"start_index": source.start, "end_index": source.end}
    return {"type": "url_citation", **place, "url": source.url, "title": source.title}


def citation_of(source: Source, text: str = "") -> dict[str, Any]:
    """Return a citation of a message's block; `encrypted_index`, by which Anthropic finds its own again, is empty."""
    words = text[source.start : source.end] if 0 <= source.start < source.end else ""
    page = {"url": source.url, "title": source.title}
    return {"type": "web_search_result_location", **page, "cited_text": words, "encrypted_index": ""}
