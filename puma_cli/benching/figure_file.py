"""The figure of a bench as a file."""

from __future__ import annotations

from pathlib import Path

from puma_cli.benching.results import Bench
from puma_cli.checkpoint.output_folder import new_file
from puma_cli.errors import ConfigError, OutputError

FORMATS = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Refuse a file that the figure cannot be written to, before anything is measured.

    Raises:
        ConfigError: its name says no format that there is.
        OutputError: its folder is not there, or it is one.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"`{path}` is no name for a figure.",
            hint=f"End it in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
        )
    if not path.parent.is_dir():
        raise OutputError(
            f"The figure `{path}` has no folder to lie in.", hint=f"mkdir -p {path.parent}"
        )
    if path.is_dir():
        raise OutputError(f"`{path}` is a folder.", hint="Give the figure another name.")


def write_plot(path: Path, bench: Bench) -> None:
    """Draw a bench into a file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    from puma_cli.report.bench_plot import plot_bench
    from puma_cli.report.drawing import house_style

    with new_file(path) as draft, house_style():
        kind = path.suffix.lower().removeprefix(".")
        plot_bench(bench).savefig(draft, dpi=200, format=kind)
