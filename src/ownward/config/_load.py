"""Settings from flags, the environment, one file and the defaults, in this order of precedence."""

from __future__ import annotations

import dataclasses
import os
import stat
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from ownward.config._settings import SECTIONS, SettingDoc, Settings, docs_of
from ownward.core import ConfigError, Fault, UsageError
from ownward.plan import MAX_FILE_BYTES, WrongValue, parse_toml, read_toml_bytes, shown, suggest

FILE_NAME = "ownward.toml"
PREFIX = "OWNWARD_"
CONFIG_VARIABLE = "OWNWARD_CONFIG"

_MAX_DIGITS = 30
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class _Stated(NamedTuple):
    """A value somebody stated, and how a fault of it is told."""

    value: Any
    origin: str
    file: str
    line: int | None
    key: str
    folder: Path


def load(
    *,
    flags: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Return the settings in effect.

    `flags` are values of the command line by key (`server.port`); None means
    not given. `config_file` is the one `--config` names. `environ` and `folder`
    stand for the process's own where they are left out.
    Raises: ConfigError with every fault of every source; UsageError where the current folder is no more.
    """
    variables = os.environ if environ is None else environ
    here = _current_folder() if folder is None else folder
    faults: list[Fault] = []
    file = find_file(config_file, variables, here)
    stated: dict[str, _Stated] = {}
    if file is not None:
        stated |= _read_file(file, faults)
    stated |= _read_environment(variables, here, faults)
    stated |= _read_flags(flags or {}, here, faults)
    _refuse_unknown_variables(variables, stated, faults)
    sections: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, kind in SECTIONS.items():
        values: dict[str, Any] = {}
        for key, about in docs_of(kind):
            source = stated.get(f"{name}.{key}")
            origins[f"{name}.{key}"] = "default" if source is None else source.origin
            if source is not None:
                _take(values, key, about, source, faults)
        sections[name] = _make(name, kind, values, stated, faults)
    if faults:
        raise ConfigError(faults, next_step="docs/reference/configuration.md has every key, with its default")
    settings = Settings(**sections, origins=origins, file=file)
    return _with_folders(settings, variables)


def find_file(config_file: Path | None, environ: Mapping[str, str], folder: Path) -> Path | None:
    """Return the file to read: the one named by flag, by $OWNWARD_CONFIG, ./ownward.toml, or the platform's.

    Raises: ConfigError, if a file that is named is not there.
    """
    named = config_file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        path = folder / named.expanduser()
        if not _is_file(path):
            by = "--config" if config_file is not None else f"${CONFIG_VARIABLE}"
            raise ConfigError([Fault(file=str(path), message=f"is not there; {by} names it")])
        return path
    for path in (folder / FILE_NAME, platform_folder("config", environ) / FILE_NAME):
        if _is_file(path):
            return path
    return None


def _is_file(path: Path) -> bool:
    """Return whether a file is there.

    Raises: ConfigError, if nobody may look, as in the home of another user: settings that are there would be missed.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise ConfigError(
            [Fault(file=str(path), message=f"cannot be accessed: {error.strerror}")],
            next_step="Set HOME to a folder of the user that runs this, or name a file with $OWNWARD_CONFIG",
        ) from None


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError(
            f"the current folder cannot be determined: {error.strerror}",
            allowed="An existing folder: relative paths start from it",
            next_step="Go to one, with cd, and try again",
        ) from None


def platform_folder(kind: str, environ: Mapping[str, str] | None = None) -> Path:
    """Return our folder for `config`, `data` or `cache` on this platform; it need not be there.

    `$XDG_…_HOME` where it is an absolute path, else `~/.config`, `~/.local/share` or `~/.cache`;
    on Windows the local application data.
    """
    variables = os.environ if environ is None else environ
    home = Path(variables["HOME"]) if variables.get("HOME") else _home()
    if sys.platform == "win32" and variables.get("LOCALAPPDATA"):
        return Path(variables["LOCALAPPDATA"]) / "ownward" / kind
    stated = variables.get(f"XDG_{kind.upper()}_HOME", "")
    below = {"config": ".config", "data": ".local/share", "cache": ".cache"}[kind]
    return (Path(stated) if Path(stated).is_absolute() else home / below) / "ownward"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # an account without a home, as in some containers
        return Path.cwd()


def variable_of(section: str, key: str) -> str:
    """Return the environment variable of a setting.

    >>> variable_of("server", "port")
    'OWNWARD_SERVER_PORT'
    """
    return f"{PREFIX}{section}_{key}".upper()


def _sections_by_key() -> dict[str, str]:
    """Return the section of each key, or the sections, for who wrote it elsewhere."""
    places: dict[str, list[str]] = {}
    for name, kind in SECTIONS.items():
        for key, _ in docs_of(kind):
            places.setdefault(key, []).append(f"[{name}]")
    return {key: " or ".join(names) for key, names in places.items()}


def _read_file(file: Path, faults: list[Fault]) -> dict[str, _Stated]:
    try:
        with file.open("rb") as stream:
            text = read_toml_bytes(stream.read(MAX_FILE_BYTES + 1), file=str(file))
        top = parse_toml(text, file=str(file))
    except OSError as error:
        faults.append(Fault(file=str(file), message=f"cannot be read: {error.strerror}"))
        return {}
    except ConfigError as error:
        faults.extend(error.faults)
        return {}
    stated: dict[str, _Stated] = {}
    sections_of = _sections_by_key()
    for name, kind in SECTIONS.items():
        table = top.table(name)
        for key, _ in docs_of(kind) if table is not None else ():
            if table is not None and table.has(key):
                line = table.line_of(key)
                where = f"{file}:{line}"
                stated[f"{name}.{key}"] = _Stated(
                    table.values[key], where, str(file), line, f"{name}.{key}", file.parent
                )
        if table is not None:
            table.finish(elsewhere=sections_of)
    top.finish(elsewhere=sections_of)
    faults.extend(top.faults.list_faults())
    return stated


def _read_environment(environ: Mapping[str, str], folder: Path, faults: list[Fault]) -> dict[str, _Stated]:
    stated: dict[str, _Stated] = {}
    for name, kind in SECTIONS.items():
        for key, about in docs_of(kind):
            variable = variable_of(name, key)
            text = environ.get(variable)
            if not text:
                continue
            try:
                value = _from_text(text, about)
            except WrongValue as wrong:
                faults.append(_fault_of("environment", None, variable, wrong, about))
                continue
            stated[f"{name}.{key}"] = _Stated(value, f"env {variable}", "environment", None, variable, folder)
    return stated


def _refuse_unknown_variables(environ: Mapping[str, str], stated: Mapping[str, _Stated], faults: list[Fault]) -> None:
    """Note variables of our sections that no setting has; variables that hold secrets are left alone."""
    known = {variable_of(name, key) for name, kind in SECTIONS.items() for key, _ in docs_of(kind)}
    named = {source.value for key, source in stated.items() if key.endswith("_env") and isinstance(source.value, str)}
    ours = tuple(f"{PREFIX}{name.upper()}_" for name in SECTIONS)
    faults.extend(
        Fault(file="environment", key=variable, message="is not a setting", allowed=suggest(variable, known))
        for variable in sorted(environ)
        if variable.startswith(ours) and variable not in known | named
    )


def _read_flags(flags: Mapping[str, Any], folder: Path, faults: list[Fault]) -> dict[str, _Stated]:
    known = {f"{name}.{key}": about for name, kind in SECTIONS.items() for key, about in docs_of(kind)}
    stated: dict[str, _Stated] = {}
    for key, value in flags.items():
        if value is None:
            continue
        if key not in known:
            faults.append(Fault(file="command line", key=key, message="is not a setting", allowed=suggest(key, known)))
            continue
        try:
            taken = _from_text(value, known[key]) if isinstance(value, str) else value
        except WrongValue as wrong:
            faults.append(_fault_of("command line", None, key, wrong, known[key]))
            continue
        plain = str(taken) if isinstance(taken, Path) else Decimal(repr(taken)) if isinstance(taken, float) else taken
        stated[key] = _Stated(plain, "flag", "command line", None, key, folder)
    return stated


def _from_text(text: str, about: SettingDoc) -> Any:
    """Return a text as the TOML value that it stands for, so that one conversion serves all sources."""
    bare = text.strip()
    match about.kind:
        case "flag":
            if bare.lower() not in _WORDS:
                raise WrongValue(f"is {shown(text)}, not true or false", example="true")
            return _WORDS[bare.lower()]
        case "whole" | "number":
            try:
                number = Decimal(bare)
            except InvalidOperation:
                return text  # which is told as in a file
            return (
                int(number)
                if number.is_finite() and -(1 << 63) < number < 1 << 63 and number == int(number)
                else number
            )
        case _:
            return text


def _fault_of(file: str, line: int | None, key: str, wrong: WrongValue, about: SettingDoc) -> Fault:
    allowed = wrong.allowed_for(key.rpartition(".")[2])
    if file == "environment" and allowed:
        allowed = allowed.replace(" = ", "=")
    if allowed and about.bounds and about.kind in {"whole", "number"}:
        allowed += f": {about.bounds}"
    return Fault(file=file, line=line, key=key, message=str(wrong), allowed=allowed)


def _take(values: dict[str, Any], key: str, about: SettingDoc, source: _Stated, faults: list[Fault]) -> None:
    """Convert one stated value; a relative path counts from the file that states it, or from the current folder."""
    try:
        value = about.convert(source.value)
    except WrongValue as wrong:
        faults.append(_fault_of(source.file, source.line, source.key, wrong, about))
        return
    if isinstance(value, Path):
        value = source.folder / _expanded(value)
    values[key] = value


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _make(
    name: str, kind: type[Any], values: dict[str, Any], stated: Mapping[str, _Stated], faults: list[Fault]
) -> Any:
    try:
        return kind(**values)
    except ConfigError as error:
        for fault in error.faults:
            source = stated[f"{name}.{fault.key}"]
            told = Fault(
                file=source.file, line=source.line, key=source.key, message=fault.message, allowed=fault.allowed
            )
            faults.append(told)
        return None


def _with_folders(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Fill in the platform's folders where no path is stated."""
    ledger, engine, catalog = settings.ledger, settings.engine, settings.catalog
    if ledger.path is None:
        ledger = dataclasses.replace(ledger, path=platform_folder("data", environ) / "ledger.db")
    if engine.cache_dir is None:
        engine = dataclasses.replace(engine, cache_dir=platform_folder("cache", environ))
    if catalog.folder is None:
        catalog = dataclasses.replace(catalog, folder=platform_folder("config", environ) / "catalog")
    return dataclasses.replace(settings, ledger=ledger, engine=engine, catalog=catalog)
