"""What every command does around its one library call: settings, progress, failures, exit codes."""

from __future__ import annotations

import json
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

import typer

from puma_cli.cli.console_reporter import BarReporter, choose_reporter
from puma_cli.cli.help_page import text_and_example
from puma_cli.cli.messages import Message, Terminated, explain
from puma_cli.cli.output import Mode, Outcome, Output, complain
from puma_cli.errors import ConfigError, PartnerError
from puma_cli.processes import started, started_as_main
from puma_cli.progress import Reporter

S = TypeVar("S")


class Session:
    """One run of a command.

    Args:
        params: the command's parameters by name, as typed; None means not given.
        command: its name.
        example: how it can be typed.
    """

    def __init__(
        self, params: Mapping[str, Any], command: str | None = None, example: str = ""
    ) -> None:
        self.params, self._command, self._example = dict(params), command, example
        mode: Mode = (
            "json" if params.get("json_output") else "quiet" if params.get("quiet") else "human"
        )
        self.output = Output(mode)
        # Of several processes, one talks.
        self._talks = started_as_main()
        self.reporter: Reporter = choose_reporter(quiet=mode == "quiet" or not self._talks)
        self._after_interrupt = ""

    def settings(
        self,
        cls: type[S],
        *,
        nested: Mapping[str, str] | None = None,
        complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    ) -> S:
        """Return the command's settings; with `--print-config`, print them and stop here.

        Args:
            nested: dotted settings by the parameter that sets them.
            complete: see `load_settings`.
        """
        from puma_cli.config.loading import load_settings

        settings = load_settings(
            cls,
            config=self.params.get("config"),
            overrides=self.params.get("overrides") or (),
            flags=self.flags(cls, nested),
            complete=complete,
        )
        self.print_config(settings)
        return settings

    def flags(self, cls: type, nested: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the parameters that set something of `cls`, by its dotted name.

        Args:
            nested: see `settings`.
        """
        from puma_cli.config.loading import paths_of

        names = dict(zip(paths_of(cls), paths_of(cls), strict=True)) | dict(nested or {})
        return {
            names[key]: value
            for key, value in self.params.items()
            # An option that may be repeated is an empty list when it is not given.
            if key in names and value not in ([], ())
        }

    def print_config(self, settings: Any) -> None:
        """With `--print-config`, print settings and stop here.

        Args:
            settings: a settings dataclass, or plain values that --config takes.
        """
        if not self.params.get("print_config"):
            return
        if self.output.mode == "json":
            from puma_cli.checkpoint.provenance import to_plain

            self.output.text(json.dumps(to_plain(settings), indent=2, ensure_ascii=False))
        else:
            self.output.text(_as_yaml(settings))
        raise typer.Exit(0)

    def share(self, settings: Any, count: int) -> int:
        """Run the command with these settings in several processes; return the exit code.

        Args:
            settings: see `print_config`.

        Raises:
            ConfigError: a launcher has started several already.
        """
        from puma_cli.launching import launch

        if started() > 1:
            raise ConfigError(
                f"{started()} processes were started, and --num-processes asks for {count}.",
                hint="Leave one of the two out.",
            )
        flags = [f"--{name}" for name in ("quiet", "debug") if self.params.get(name)]
        flags += ["--json"] if self.params.get("json_output") else []
        with NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(_as_yaml(settings))
            file.flush()
            return launch([str(self._command), "--config", file.name, *flags], count)

    def finish(self, outcome: Outcome) -> None:
        """Print the command's result."""
        self.close()
        if self._talks:
            self.output.emit(outcome)

    def on_interrupt(self, hint: str) -> None:
        """Say `hint`, the next step, if the user interrupts the run."""
        self._after_interrupt = hint

    def explain(self, error: BaseException) -> Message:
        """Return what to tell the user about `error`."""
        message = explain(error, self.params)
        if isinstance(error, KeyboardInterrupt):
            return replace(message, hint=self._after_interrupt)
        if message.problem.startswith("Missing: ") and self._example:
            return replace(message, hint=f"{message.hint}\nFor example: {self._example}")
        return message

    def close(self) -> None:
        """Take progress bars off the screen."""
        if isinstance(self.reporter, BarReporter):
            self.reporter.close()


def _as_yaml(settings: Any) -> str:
    import yaml

    from puma_cli.checkpoint.provenance import to_plain

    return str(yaml.safe_dump(to_plain(settings), sort_keys=False, allow_unicode=True))


@contextmanager
def session(ctx: typer.Context, shared: bool = False) -> Iterator[Session]:
    """Run a command's body; every failure becomes a message and an exit code.

    Args:
        shared: whether several processes can share the command's work.

    Raises:
        typer.Exit: with the code of the failure.
    """
    run = Session(ctx.params, ctx.info_name, text_and_example(ctx.command.help or "")[1])
    try:
        with _terminable():
            if started() > 1 and not shared:
                raise ConfigError(
                    f"{started()} processes were started.",
                    cause=f"This version runs `{ctx.command_path}` in one process.",
                    hint="Start it without a launcher.",
                )
            yield run
    except (typer.Exit, BrokenPipeError):
        run.close()
        raise
    except BaseException as error:
        run.close()
        if isinstance(error, (SystemExit, GeneratorExit)):
            raise
        if run.params.get("debug"):
            traceback.print_exc()
        message = run.explain(error)
        # What the first process has told once is not told again by each of the others.
        if not (isinstance(error, PartnerError) and error.told):
            complain(str(message))
        raise typer.Exit(message.exit_code) from error


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that drafts are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.stderr.flush()
