"""The one place where a secret is read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from ownward.core import ConfigError, Fault
from ownward.plan import is_variable_name

_UNCARRIED = re.compile(r"[\x00-\x1f\x7f]|[^\x00-\x7f]")


def resolve_secret(name: str, *, environ: Mapping[str, str] | None = None) -> str:
    """Return the secret that the environment variable `name` holds, without blanks around it.

    Raises: ConfigError naming the variable, never the value, if it is unset,
    empty or cannot stand in a header; nor is `name` shown where it is no
    variable's name, since it may be the secret itself.
    """
    if not is_variable_name(name):
        allowed = "Name a variable in capitals, such as OPENAI_API_KEY"
        raise ConfigError([Fault(file="environment", message="an api_key_env names no variable", allowed=allowed)])
    variables = os.environ if environ is None else environ
    secret = variables.get(name, "").strip()
    if not secret:
        what = "is empty" if name in variables else "is not set"
        raise ConfigError([Fault(file="environment", key=name, message=what)], next_step=f"Set it: export {name}=…")
    if _UNCARRIED.search(secret):
        raise ConfigError([Fault(file="environment", key=name, message="holds characters that no header can carry")])
    return secret
