"""`ownward engines`: run one engine by hand."""

from __future__ import annotations

import click


@click.group()
def engines() -> None:
    """Run an engine by hand: the embedded one, or the fake upstream for tests."""


@engines.group()
def run() -> None:
    """Run an engine in the foreground until Ctrl-C."""


@run.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    epilog="Example: ownward engines run fake --port 9000 --ttft 0.2 --tpot 0.02 --fail 429:3",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def fake(*, arguments: tuple[str, ...]) -> None:
    """Run the fake upstream: both dialects, timing, faults, and a count of what it served.

    Options: ownward engines run fake --help
    """
    from ownward.engines import parse_fake_arguments, serve_fake

    serve_fake(parse_fake_arguments(list(arguments)))
