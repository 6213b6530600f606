"""The `ownward` command: a table of subcommands loaded on demand, and the one place where errors become exit codes."""

from __future__ import annotations

import codecs
import errno
import importlib
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import click

from ownward import __version__
from ownward.core import BadInput, OwnwardError, UsageError, closest

INTERRUPTED = 130
_AS_JSON = "ownward.as_json"
_ALIKE = "ownward.alike"
_SIGNS = MappingProxyType(str.maketrans("…·→×", "~->x"))


class _Entry(NamedTuple):
    target: str
    summary: str


# In the order of the loop, which is the order of the help text.
COMMANDS: dict[str, _Entry] = {
    "demo": _Entry(
        "ownward.cli._demo:demo", "The whole loop on shipped data and the embedded model, in about a minute."
    ),
    "fit": _Entry("ownward.cli._fit:fit", "Will it run on this machine, how fast, at what cost."),
    "models": _Entry("ownward.cli._models:models", "The catalogue of models: search, show the anatomy, pull weights."),
    "machines": _Entry("ownward.cli._machines:machines", "The catalogue of machines: search, show, compare."),
    "prices": _Entry("ownward.cli._prices:prices", "What APIs charge: search, show, compare."),
    "predict": _Entry("ownward.cli._predict:predict", "Predict speeds for many cases at once."),
    "import": _Entry("ownward.cli._import:import_", "Read logs or a public trace into the ledger."),
    "plan": _Entry("ownward.cli._plan:plan", "Decide from the ledger: options, cost, payback; writes plan.toml."),
    "simulate": _Entry("ownward.cli._simulate:simulate", "Replay a trace against a deployment."),
    "trial": _Entry("ownward.cli._trial:trial", "Does a candidate complete what the baseline completes?"),
    "serve": _Entry("ownward.cli._serve:serve", "One OpenAI-compatible endpoint over what you own and rent."),
    "top": _Entry("ownward.cli._top:top", "What a running gateway does, live: speeds, spend, queues, errors."),
    "report": _Entry(
        "ownward.cli._report:report", "Cost per completed task, savings, certificates, and what is not known."
    ),
    "ledger": _Entry("ownward.cli._ledger:ledger", "Export the ledger, reconcile it, see what it holds."),
    "keys": _Entry("ownward.cli._keys:keys", "Create, list and revoke the keys that clients use."),
    "engines": _Entry("ownward.cli._engines:engines", "Run the fake upstream by hand, for tests."),
    "bench": _Entry("ownward.cli._bench:bench", "Measure this machine and its engine."),
    "config": _Entry("ownward.cli._config:config", "Show every setting with its origin, or check a plan."),
}


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
_FOLDER_GONE = UsageError(
    "the current folder does not exist any more", next_step="Go to another, with cd, and try again"
)
_CHECK_PERMISSIONS = "Check the path, the permissions of its folders, and whose folder $HOME names"


class _LazyGroup(click.Group):
    """Lists commands from the table and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module_name, attribute = entry.target.split(":")
        command: click.Command = getattr(importlib.import_module(module_name), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = closest(args[0], COMMANDS)
            raise UsageError(
                f"no command {args[0]!r}",
                allowed=f"Closest: {', '.join(near)}" if near else f"Commands: {', '.join(COMMANDS)}",
                next_step="See them all with: ownward --help",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: ownward demo",
)
@click.version_option(__version__, prog_name="ownward")
def _ownward() -> None:
    """Put every AI request where it costs least to complete the task: a model you own or an API you rent."""


def run(argv: Sequence[str]) -> int:
    """Run the command line `argv` (without the program's name) and return the exit code of CONTRACTS.

    0: done. 2: usage, configuration, bad input. 3: an answer (infeasible, unsupported). 4: upstream or engine.
    5: ledger. 1, with a traceback: our bug.
    """
    _fill_in_streams()
    wants_json = "--json" in argv or list(argv[:2]) == ["ledger", "export"]
    _escape_what_output_cannot_spell(keeps_signs=wants_json)
    try:
        outcome = _ownward.main(args=list(argv), prog_name="ownward", standalone_mode=False)
        sys.stdout.flush()
    except OwnwardError as error:
        return _report(error, wants_json=wants_json)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return UsageError.exit_code
    except click.ClickException as error:
        return _report(_as_usage_error(error), wants_json=wants_json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader went away (`| head`), which click turns into an exit: no fault of ours, nor of the user's.
        _point_output_at_nothing()
        return 0
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename is None and not _has_folder():
            return _report(_FOLDER_GONE, wants_json=wants_json)
        if error.errno in _FULL:
            return _report(_as_full(error), wants_json=wants_json)
        if error.errno in _REFUSED and error.filename is not None:
            refused = BadInput(
                f"cannot look at {str(error.filename)!r}: {error.strerror}", next_step=_CHECK_PERMISSIONS
            )
            return _report(refused, wants_json=wants_json)
        if error.errno != errno.ENAMETOOLONG:
            raise
        # Every command takes names of files, and no system has any as long as this one.
        too_long = BadInput(
            f"no file can have a name of {len(str(error.filename))} characters", next_step="Check the path"
        )
        return _report(too_long, wants_json=wants_json)
    return outcome if isinstance(outcome, int) else 0


def _has_folder() -> bool:
    """Return whether the current folder still exists."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _fill_in_streams() -> None:
    """Have standard streams that were closed lead to nothing: Python has None, and files would take their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process


def _escape_what_output_cannot_spell(*, keeps_signs: bool) -> None:
    """Have letters that the standard output's encoding lacks written as JSON spells them in ASCII, in any text.

    The signs that our own screens are set with have a likeness of the same width, unless every letter has to be kept.
    """
    codecs.register_error(_AS_JSON, _spell_as_json)
    codecs.register_error(_ALIKE, lambda error: _spell_as_json(error, signs=_SIGNS))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_AS_JSON if keeps_signs else _ALIKE)


def _spell_as_json(error: UnicodeError, signs: Mapping[int, int] = MappingProxyType({})) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end].translate(signs))[1:-1], error.end


def _point_output_at_nothing() -> None:
    """Have the interpreter's own flush at the end be quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)


def _as_full(error: OSError) -> BadInput:
    if error.filename is None:  # a stream: the standard output, unless somebody has redirected what we write ourselves
        _point_output_at_nothing()
    return BadInput(
        f"cannot write: {error.strerror}",
        where=None if error.filename is None else str(error.filename),
        next_step="Free some space, or write elsewhere; everything else the command did is kept",
    )


def _as_usage_error(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "ownward"
    lists = context is not None and isinstance(context.command, click.Group) and context.command.invoke_without_command
    return UsageError(
        error.format_message().rstrip("."),
        next_step=f"See: {path} --help" + (f", or all of them with: {path}" if lists else ""),
    )


def _report(error: OwnwardError, *, wants_json: bool) -> int:
    from ownward.core import to_json

    if wants_json:
        print(to_json({"schema": "ownward.error/1", "error": error.as_record()}))
    print(str(error), file=sys.stderr)
    return error.exit_code
