"""The journal: a file beside the ledger in which a call that comes alone is noted, and put into the tables soon after.

A request has eleven places in the tables and their indexes. To change them all before each single call is most of what
its ledger costs, and half of the time that a call takes whose gateway has little to do. A note is one write to a file
that has its size already, through memory where that is safe (`_in_place`): it outlives the death of any process as a
commit does, and moves nothing else.

Who notes holds a lock on its file; who gets that lock knows that nobody notes there any more. Entries are numbered, and
the transaction that puts some into the tables writes down up to which (`_posting`), so that each gets there once,
whoever does it and whenever anybody is killed. The file has two halves, written by turns: one is begun anew when all in
it is in the tables.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import stat
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias
from weakref import WeakSet
from zlib import crc32

import msgspec

from ownward.core import LedgerError
from ownward.ledger._entries import Entry
from ownward.ledger._in_place import map_in_place
from ownward.ledger._statements import Table

if sys.platform != "win32":
    import fcntl

Rows: TypeAlias = Sequence[tuple[Table, Sequence[str | int | float | None]]]
"""Rows of tables, written together or not at all."""

IS_POSSIBLE: Final = sys.platform != "win32"  # files can be locked, and written at a place

_MAGIC: Final = b"ownward calls 2\n"
_WANTED_AT: Final = len(_MAGIC)
_HEADER_BYTES: Final = 4096
_HALF_BYTES: Final = 1024 * 1024
_FILE_BYTES: Final = _HEADER_BYTES + 2 * _HALF_BYTES
_HEAD: Final = struct.Struct("<IIQ")  # of an entry: bytes of its text, checksum, number
_MOST_BYTES: Final = 16_384  # what is longer goes into the tables
_UNKNOWN_HERE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_INT64_END: Final = 1 << 63
_INFIX: Final = "-calls-"
_RUN_ID: Final = re.compile("run_[0-9A-HJKMNP-TV-Z]{26}")  # a copy of another name would be noted twice
_PLAINLY: Final = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))
"""A pipe is not waited for, and a link leads nowhere."""
_USE_ITS_VERSION: Final = (
    "Use the version that wrote it. If the file is damaged, keep it elsewhere: what it held and the tables do not is"
    " lost"
)
_KINDS: Final = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_INTENT_BOUNDS: Final = slice(7, 10)  # input_tokens_high, output_tokens_high, charge_high_picousd

_encode = msgspec.msgpack.Encoder().encode
_Entries: TypeAlias = list[list[tuple[Table, list[str | int | float | None]]]]
_DECODERS: Final[Mapping[bytes, Callable[[bytes], _Entries]]] = {
    b"ownward calls 1\n": msgspec.json.Decoder(_Entries).decode,
    _MAGIC: msgspec.msgpack.Decoder(_Entries).decode,
}
"""By how a file begins: what an earlier version left behind is read too."""


class Noted(msgspec.Struct, frozen=True):
    """What was noted at once, under one number: entries of rows."""

    number: int
    entries: Sequence[Rows]


class Journal:
    """One process's own; any thread may call it. Without a file, nothing is noted."""

    def __init__(self, path: Path, *, like: Path | None = None) -> None:
        """Begin without a file; who may read or write `like`, the ledger, may do so there."""
        self.path = path
        self._like = like
        _journals.add(self)
        self._lock = threading.Lock()
        self._file: int | None = None
        self._memory: mmap.mmap | None = None  # of the file, where it may be written through it
        self._number = 0  # of the newest note
        self._posted = 0
        self._unposted: list[Noted] = []
        self._half = 0
        self._newest = [0, 0]  # numbers in either half
        self._at = self._end = 0  # where the next one goes, and what it must not pass
        self._is_left = False  # whether a file was closed that held what was not yet in the tables

    @property
    def is_open(self) -> bool:
        """Whether anything can be noted."""
        return self._file is not None

    @property
    def number(self) -> int:
        """The number of the newest note."""
        return self._number

    @property
    def unposted(self) -> int:
        """How many notes are not known to be in the tables."""
        return len(self._unposted)

    def open(self) -> bool:
        """Make the file and lock it; False where that cannot be had, and nothing is noted.

        Whoever forbids journals holds the ledger's write lock while it looks for them: so does who calls this.
        """
        with self._lock:
            if self._file is None and IS_POSSIBLE:
                self._file = _make(self.path, like=self._like)
                if self._file is not None:
                    self._memory = map_in_place(self._file, _FILE_BYTES)
                    self._half, self._newest = 0, [0, 0]
                    self._begin_half()
            return self._file is not None

    def enter(self, entries: list[Entry]) -> bool:
        """Note `entries` as one; False where they belong in the tables."""
        rows = []
        for entry in entries:
            if not _can_be_noted(entry):
                return False
            rows.append(entry.rows)
        try:
            text = _encode(rows)
        except (UnicodeEncodeError, TypeError, OverflowError):  # the tables will say what is wrong with it
            return False
        if len(text) > _MOST_BYTES:
            return False
        with self._lock:
            file, end = self._file, self._at + _HEAD.size + len(text)
            if file is None or end > self._end:
                return False
            self._number = number = self._number + 1
            note = _HEAD.pack(len(text), crc32(text, number & 0xFFFF_FFFF), number) + text
            if self._memory is not None:
                self._memory[self._at : end] = note
            elif not _write(file, note, self._at):
                self._unposted.append(Noted(number, ()))  # no half of it may count later
                self._end = 0
                return False
            self._at = end
            self._newest[self._half] = number
            self._unposted.append(Noted(number, rows))
        return True

    def take(self) -> list[Noted]:
        """Return what is not known to be in the tables; what is noted from now on goes into the other half."""
        with self._lock:
            if self._end and self._newest[self._half] > self._posted >= self._newest[1 - self._half]:
                self._half = 1 - self._half
                self._begin_half()
            return list(self._unposted)

    def note_posting(self, up_to: int) -> None:
        """Take note that all up to a number is in the tables."""
        with self._lock:
            self._posted = max(self._posted, up_to)
            self._unposted = [noted for noted in self._unposted if noted.number > up_to]
            if self._file is None and self._is_left and not self._unposted:
                self._is_left = False
                file = lock_journal(self.path)
                if file is not None:  # else somebody is about to remove it
                    self.path.unlink(missing_ok=True)
                    os.close(file)

    def is_wanted(self) -> bool:
        """Return whether another process asks that nothing be noted any more, or could not, as it lost its name."""
        with self._lock:
            if self._file is None:
                return False
            return os.pread(self._file, 1, _WANTED_AT) not in {b"\0", b""} or not os.fstat(self._file).st_nlink

    def close(self) -> None:
        """Note nothing any more; the file stays where somebody has yet to put it into the tables."""
        with self._lock:
            file = self._let_go()
            self._at = self._end = 0
            if file is not None:
                self._is_left = bool(self._unposted)
                if not self._is_left:
                    self.path.unlink(missing_ok=True)
                os.close(file)

    def forget(self) -> None:
        """Let go of the file in a child that was forked: as long as it has it open, its parent seems to note there."""
        file = self._let_go()
        if file is not None:
            os.close(file)

    def _let_go(self) -> int | None:
        file, self._file = self._file, None
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()
        return file

    def _begin_half(self) -> None:
        self._at = _HEADER_BYTES + self._half * _HALF_BYTES
        self._end = self._at + _HALF_BYTES


_journals: Final[WeakSet[Journal]] = WeakSet()


def _forget_all() -> None:
    for journal in list(_journals):
        journal.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def path_of(ledger: Path, run_id: str) -> Path:
    """Return where the process that writes as `run_id` notes its calls."""
    return ledger.with_name(f"{ledger.name}{_INFIX}{run_id}")


def find_journals(ledger: Path) -> dict[Path, str]:
    """Return the journals that lie beside a ledger, each with the id of the run that wrote it.

    Raises: LedgerError, if its folder may not be listed: calls would be missed.
    """
    try:
        with os.scandir(ledger.parent) as found:
            names = sorted(entry.name for entry in found if _INFIX in entry.name)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LedgerError(
            f"the journals beside the ledger cannot be looked for: {error.strerror or error}",
            where=str(ledger.parent),
            allowed="The newest calls of a running or killed process stand in files beside the ledger",
            next_step=f"Allow its folder to be listed: chmod +r {ledger.parent}",
        ) from error
    journals = {}
    for name in names:
        of, _, run_id = name.rpartition(_INFIX)
        if _RUN_ID.fullmatch(run_id) and (of == ledger.name or _is_same(ledger.with_name(of), ledger)):
            journals[ledger.with_name(name)] = run_id
    return journals


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two names lead to one file: to some file systems, as macOS has, capitals are the same letters."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def read_journal(path: Path, *, after: int = 0) -> list[Noted]:
    """Return what a journal holds with numbers above `after`, in their order; a note that is not whole does not count.

    Raises: LedgerError, if it is no journal, or holds what this version cannot read.
    """
    try:
        file = os.open(path, os.O_RDONLY | _PLAINLY)
        try:
            kind = stat.S_IFMT(os.fstat(file).st_mode)
            if kind != stat.S_IFREG:
                why = f"{_KINDS.get(kind, 'something')} stands where a file should"
                raise _unreadable(str(path), why, next_step="Move it away: ownward did not make it")
            with open(file, "rb", closefd=False) as opened:
                data = opened.read(_FILE_BYTES)
        finally:
            os.close(file)
    except FileNotFoundError:
        return []  # its process has put everything into the tables and removed it
    except OSError as error:
        next_step = (
            "Give it the owner and the permissions of the ledger, or move away what is not one of ownward's journals"
        )
        raise _unreadable(str(path), error.strerror or str(error), next_step=next_step) from error
    decode = _DECODERS.get(data[: len(_MAGIC)])
    if decode is None:
        if not data.strip(b"\0"):
            return []  # its process has only just made it
        raise _unreadable(str(path), f"it starts with {data[: len(_MAGIC)]!r}")
    found = []
    for half in range(2):
        at = _HEADER_BYTES + half * _HALF_BYTES
        end, last = at + _HALF_BYTES, 0
        while (text := _text_at(data, at, end)) is not None:
            number = _HEAD.unpack_from(data, at)[2]
            if last and number != last + 1:
                break  # left from when this half was written before
            at, last = at + _HEAD.size + len(text), number
            if number > after:
                found.append(Noted(number, _read(text, decode, where=f"{path}, entry {number}")))
    return sorted(found, key=lambda noted: noted.number)


def ask_to_stop(path: Path) -> None:
    """Ask the process that notes in a journal to stop; it answers by giving up its lock."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDWR | _PLAINLY)
        try:
            if os.pread(file, len(_MAGIC), 0) in _DECODERS:
                os.pwrite(file, b"!", _WANTED_AT)
        finally:
            os.close(file)


def lock_journal(path: Path) -> int | None:
    """Return an open file, locked, of a journal in which nobody notes any more; None where one does, or it is gone.

    Closing the file lets go of it. Only who holds the lock removes what has this name.
    """
    try:
        file = os.open(path, os.O_RDWR | _PLAINLY)
    except OSError:
        return None
    if not _lock(file):
        return None
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(file), path.lstat()):
            return file
    os.close(file)  # removed since it was opened, and perhaps made anew
    return None


def _make(path: Path, *, like: Path | None) -> int | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    if not _lock(file):
        return None
    try:
        if like is not None:
            _share(file, like)
        _reserve(file)
        is_made = _write(file, _MAGIC.ljust(_FILE_BYTES, b"\0"), 0)
    except OSError:
        is_made = False
    if is_made and os.fstat(file).st_nlink:  # else somebody took it for one that was left, and removed it
        return file
    path.unlink(missing_ok=True)
    os.close(file)
    return None


def _reserve(file: int) -> None:
    """Have the disk's room for a file at once, where its file system can say so; else what is written next takes it."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, _FILE_BYTES)
    except OSError as error:  # musl does not write the bytes where the file system cannot (NFS, ZFS), as glibc does
        if error.errno not in _UNKNOWN_HERE:
            raise


def _share(file: int, like: Path) -> None:
    """Give a file the owner and the permissions of another, as SQLite does with its log."""
    found = like.stat()
    with contextlib.suppress(PermissionError):
        os.fchown(file, -1 if os.geteuid() else found.st_uid, found.st_gid)
    os.fchmod(file, stat.S_IMODE(found.st_mode) & 0o666)


def _lock(file: int) -> bool:
    """Lock an open file, or close it."""
    if sys.platform == "win32":
        return True  # nobody notes there: it was copied from elsewhere
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    return True


def _write(file: int, data: bytes, at: int) -> bool:
    try:
        return os.pwrite(file, data, at) == len(data)
    except OSError:
        return False


def _text_at(data: bytes, at: int, end: int) -> bytes | None:
    """Return the text of the entry at a place, or None where no whole one is."""
    end = min(end, len(data))
    if at + _HEAD.size > end:
        return None
    size, checksum, number = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    if not size or at + size > end:
        return None
    text = data[at : at + size]
    return text if crc32(text, number & 0xFFFF_FFFF) == checksum else None


def _read(text: bytes, decode: Callable[[bytes], _Entries], *, where: str) -> Sequence[Rows]:
    try:
        return decode(text)
    except msgspec.DecodeError as error:
        raise _unreadable(where, str(error)) from error


def _unreadable(where: str, why: str, *, next_step: str = _USE_ITS_VERSION) -> LedgerError:
    return LedgerError(
        f"a journal of the ledger cannot be read: {why}",
        where=where,
        allowed="A file that ownward wrote, of a version up to this one",
        next_step=next_step,
    )


def _can_be_noted(entry: Entry) -> bool:
    """Return whether an entry can be put into the tables later, without anybody having to be told what they said."""
    rows = entry.rows
    if entry.call is not None or entry.checks or entry.takes or entry.releases or not rows:
        return False
    table, values = rows[-1]
    if table != "intents":
        return table in {"settlements", "refusals"}
    read, written, charge = values[_INTENT_BOUNDS]
    return entry.is_fresh and (read or 0) < _INT64_END and (written or 0) < _INT64_END and (charge or 0) < _INT64_END
