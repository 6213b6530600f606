"""On which line each key of a TOML text stands.

The text has been read by tomllib already, so that it is known to be valid; it
is walked a second time only when there is a fault to show. Paths are tuples
of keys and array positions.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_SKIP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_LITERAL = re.compile(r"'([^']*)'")
_MULTI_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL)
_MULTI_LITERAL = re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}#][^,\]}#\n]*")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def index_lines(text: str) -> dict[Path, int]:
    """Return the line (from 1) of every table, key and array entry in `text`, which is valid TOML."""
    walker = _Walker(text)
    walker.walk()
    return walker.lines


def comments_of(text: str) -> list[str]:
    """Return the comments of `text`, which is valid TOML, in their order, each from its `#` to the line's end."""
    walker = _Walker(text)
    walker.walk()
    return walker.comments


class _Walker:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._line = 1
        self._line_at = 0
        self._counts: dict[Path, int] = {}
        self.lines: dict[Path, int] = {}
        self.comments: list[str] = []

    def walk(self) -> None:
        table: Path = ()
        while self._skip():
            if self._text.startswith("[[", self._at):
                self._at += 2
                table = self._header(self._key_path(), is_array=True)
                self._at += 2
            elif self._text[self._at] == "[":
                self._at += 1
                table = self._header(self._key_path(), is_array=False)
                self._at += 1
            else:
                self._key_value(table)

    def _skip(self) -> bool:
        self._pass_blanks()
        return self._at < len(self._text)

    def _pass_blanks(self) -> None:
        passed = self._match(_SKIP)[0]
        if "#" in passed:
            lines = (line.strip() for line in passed.split("\n"))
            self.comments += [line for line in lines if line]

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            message = f"no {pattern.pattern!r} at {self._at}, in a text that was taken for valid TOML"
            raise AssertionError(message)
        self._at = found.end()
        return found

    def _note(self, path: Path) -> None:
        self._line += self._text.count("\n", self._line_at, self._at)
        self._line_at = self._at
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self._line)

    def _header(self, keys: tuple[str, ...], *, is_array: bool) -> Path:
        path = (*self._resolve((), keys[:-1]), keys[-1])
        if is_array:
            count = self._counts.get(path, 0)
            self._counts[path] = count + 1
            path = (*path, count)
        elif path in self._counts:
            path = (*path, self._counts[path] - 1)
        self._note(path)
        return path

    def _resolve(self, path: Path, keys: tuple[str, ...]) -> Path:
        for key in keys:
            path = (*path, key)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _key_path(self) -> tuple[str, ...]:
        keys = []
        while True:
            self._match(_BLANK)
            keys.append(self._key())
            self._match(_BLANK)
            if not self._text.startswith(".", self._at):
                return tuple(keys)
            self._at += 1

    def _key(self) -> str:
        quote = self._text[self._at]
        if quote == '"':
            return _ESCAPE.sub(_unescape, self._match(_BASIC)[1])
        return self._match(_LITERAL)[1] if quote == "'" else self._match(_BARE_KEY)[0]

    def _key_value(self, table: Path) -> None:
        self._pass_blanks()
        start = self._at
        keys = self._key_path()
        path = (*table, *keys)
        end, self._at = self._at, start
        self._note(path)
        self._at = end + 1  # past the =
        self._value(path)

    def _value(self, path: Path) -> None:
        self._pass_blanks()
        text, at = self._text, self._at
        if text.startswith('"""', at):
            self._match(_MULTI_BASIC)
        elif text.startswith("'''", at):
            self._match(_MULTI_LITERAL)
        elif text[at] == '"':
            self._match(_BASIC)
        elif text[at] == "'":
            self._match(_LITERAL)
        elif text[at] == "[":
            self._array(path)
        elif text[at] == "{":
            self._inline_table(path)
        else:
            self._match(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        position = 0
        while True:
            self._pass_blanks()
            if self._text[self._at] == "]":
                break
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, position))
            self._value((*path, position))
            position += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while True:
            self._pass_blanks()
            if self._text[self._at] == "}":
                break
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._key_value(path)
        self._at += 1


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if code[0] in "uU" and len(code) > 1 else _ESCAPES.get(code, code)
