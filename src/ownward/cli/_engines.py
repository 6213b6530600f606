"""`ownward engines`: run one engine by hand."""

from __future__ import annotations

import click

from ownward.cli._output import example


@click.group()
def engines() -> None:
    """Run the fake upstream by hand: a server without a model, for tests and first steps."""


@engines.group()
def run() -> None:
    """Run an engine in the foreground until Ctrl-C."""


@run.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    epilog=example("ownward engines run fake --port 9000 --ttft 0.2 --tpot 0.02 --fail 429:3"),
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def fake(*, arguments: tuple[str, ...]) -> None:
    """Run the fake upstream.

    It speaks both dialects, at the pace and with the faults you ask for, and counts what it served.

    Options: ownward engines run fake --help
    """
    from ownward.engines import parse_fake_arguments, serve_fake

    serve_fake(parse_fake_arguments(list(arguments)))
