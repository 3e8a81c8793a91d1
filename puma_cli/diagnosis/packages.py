"""The packages that puma stands on, and the optional ones: versions, and whether they work."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import Requirement

from puma_cli.diagnosis.findings import ABSENT, BAD, Finding
from puma_cli.version import __version__

DISTRIBUTION = "puma-cli"
# Optional parts: distribution, module, what it is for.
OPTIONAL = (
    ("bitsandbytes", "bitsandbytes", "training over weights in 4 bits: lora.quantize=nf4"),
    ("tensorboard", "tensorboard", "curves of a training as it runs"),
    ("faiss-cpu", "faiss", "another search backend"),
    ("lancedb", "lancedb", "indexes as tables of a database"),
    ("sentence-transformers", "sentence_transformers", "opening what was exported for it"),
    ("mteb", "mteb", "scoring on the tasks of mteb"),
    ("flash-attn", "flash_attn", "attention without padding on CUDA"),
)
# Not needed, but where it is broken, libraries that look for it break with it.
LOOKED_FOR = "torchvision"
# Seconds that importing a package may take in a process of its own.
_PATIENCE = 120


def examine_packages(requirements: Sequence[str] | None = None) -> Iterator[Finding]:
    """Yield puma, Python and every package that puma needs.

    Args:
        requirements: what is needed, such as `torch>=2.6`; by default what puma's metadata say.
    """
    yield Finding("packages", "puma", __version__)
    yield Finding("packages", "python", platform.python_version())
    if requirements is None:
        try:
            requirements = metadata.requires(DISTRIBUTION) or ()
        except metadata.PackageNotFoundError:
            yield Finding(
                "packages",
                DISTRIBUTION,
                "not installed",
                BAD,
                "puma runs from its source, so nothing says which versions it needs.",
                "pip install . in the folder of the source.",
            )
            return
    for text in requirements:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            yield _needed(needed)


def _needed(needed: Requirement) -> Finding:
    install = f"pip install '{needed.name}{needed.specifier}'"
    found = version_of(needed.name)
    if found is None:
        problem = f"{needed.name} is not installed; puma needs {needed.specifier}."
        return Finding("packages", needed.name, "not installed", BAD, problem, install)
    # Development builds count: whoever runs one knows.
    if not needed.specifier.contains(found, prereleases=True):
        problem = f"{needed.name} is {found}; puma needs {needed.specifier}."
        return Finding("packages", needed.name, found, BAD, problem, install)
    return Finding("packages", needed.name, found)


def examine_optional() -> Iterator[Finding]:
    """Yield the optional packages; what is there is imported in a process of its own."""
    for distribution, module, purpose in OPTIONAL:
        if find_spec(module) is None:
            yield Finding("optional", distribution, "not installed", ABSENT, hint=f"For {purpose}.")
        else:
            yield _imported(distribution, module, f"pip install --force-reinstall {distribution}")
    if find_spec(LOOKED_FOR) is None:
        hint = "For sentence-transformers to read images of exports; puma needs none."
        yield Finding("optional", LOOKED_FOR, "not installed", ABSENT, hint=hint)
    else:
        yield _imported(
            LOOKED_FOR, LOOKED_FOR, "Install the release that fits torch, or none: puma needs none."
        )


def _imported(distribution: str, module: str, hint: str) -> Finding:
    found = version_of(distribution) or "unknown version"
    why = why_not_imported(module)
    if why is None:
        return Finding("optional", distribution, f"{found}, too slow to import to be checked")
    if not why:
        return Finding("optional", distribution, found)
    problem = f"{distribution} {found} is installed, but does not import: {why}"
    return Finding("optional", distribution, found, BAD, problem, hint)


def version_of(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def why_not_imported(module: str, patience: float = _PATIENCE) -> str | None:
    """Return the last line of what importing a module says in a new process.

    Args:
        patience: seconds that it may take.

    Returns:
        nothing if it imports, None if that takes too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process ended with {done.returncode}."
