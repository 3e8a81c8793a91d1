"""From what a user calls a model to a folder on this disk."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from puma_cli.checkpoint import kinds
from puma_cli.checkpoint.layout import CONFIG, DOWNLOADED, LAYOUT
from puma_cli.checkpoint.shard_index import weight_files
from puma_cli.errors import CheckpointError
from puma_cli.progress import SILENT, Reporter

PUMA_MINI = "puma-mini"
_PACKAGED = Path(__file__).resolve().parent.parent / "models" / "puma_mini"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+(@[\w.\-/]+)?")
_KINDS = "a folder, `puma-mini` or a hub id such as `Qwen/Qwen2-VL-2B-Instruct`"


def resolve(model: str | Path, reporter: Reporter = SILENT, *, fetch: bool = True) -> Path:
    """Return the folder of a checkpoint, downloading a hub id if it must.

    Args:
        model: a folder, `puma-mini` or `org/name[@revision]`.
        fetch: whether a hub model may be downloaded; otherwise it must be cached.

    Raises:
        CheckpointError: there is no such model, or it is no checkpoint with safetensors weights.
    """
    if str(model) == PUMA_MINI:
        if not _PACKAGED.is_dir():
            raise CheckpointError(
                "This installation of puma lacks its model puma-mini.",
                hint="Install puma again, or train the model with the command on its card.",
            )
        return _checked(_PACKAGED, PUMA_MINI)
    path = Path(model).expanduser()
    if path.exists():
        return _checked(path, str(model))
    if isinstance(model, str) and _HUB_ID.fullmatch(model) and not path.parent.is_dir():
        return _checked(_snapshot(model, reporter, fetch), model)
    raise CheckpointError(
        f"There is no model `{model}`.", cause=_likely(path), hint=f"A model is {_KINDS}."
    )


def _checked(folder: Path, name: str) -> Path:
    """Return `folder` if it holds a config and safetensors weights."""
    if folder.is_file():
        raise CheckpointError(
            f"`{name}` is a file, not a checkpoint folder.",
            hint=f"Name the folder that holds it: `{folder.parent}`.",
        )
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"`{name}` is no checkpoint: it has no `{CONFIG}`.",
            cause=_instead(folder),
            hint=f"A model is {_KINDS}.",
        )
    weight_files(folder)
    return folder


def _instead(folder: Path) -> str:
    kind = kinds.tell_kind(folder)
    if kind == kinds.UNFINISHED:
        return f"It holds an unfinished training; its last state is in `{LAYOUT.training}`."
    if kind != kinds.UNKNOWN:
        return f"It holds a {kind}." if kind != kinds.SCORES else "It holds scores."
    inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if inside:
        return f"It has checkpoints inside: {', '.join(f'`{name}`' for name in inside[:5])}."
    return "It is empty." if not any(folder.iterdir()) else ""


def _likely(path: Path) -> str:
    """Return a guess at what a misspelt path meant, or an empty sentence."""
    names = [PUMA_MINI] if len(path.parts) == 1 else []
    if path.parent.is_dir():
        names += [item.name for item in path.parent.iterdir() if item.is_dir()]
    else:
        missing = next(p for p in reversed(path.parents) if not p.is_dir())
        return f"There is no folder `{missing}`."
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    if not close:
        return ""
    return f"Did you mean `{path.parent / close[0] if len(path.parts) > 1 else close[0]}`?"


def _snapshot(model: str, reporter: Reporter, fetch: bool) -> Path:
    """Return the cached snapshot of a hub model, fetching safetensors and text files only."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    name, _, revision = model.partition("@")
    if fetch:
        reporter.note(f"Fetching `{model}` from the hub, unless it is cached.")
    # The hub's own bars would print from the library; a reporter that listens allows them.
    quiet = reporter is SILENT and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=list(DOWNLOADED),
                local_files_only=not fetch,
            )
        )
    except GatedRepoError as error:
        raise CheckpointError(
            f"The model `{name}` is gated.",
            cause="Its owners ask you to accept their terms first.",
            hint=f"Accept them at huggingface.co/{name}, then log in with `hf auth login`.",
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"The model `{name}` has no revision `{revision}`.",
            hint="Give a branch, a tag or a commit after the @, or nothing.",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"There is no model `{name}`, neither as a folder nor on the hub.",
            hint=f"A model is {_KINDS}.",
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if not fetch:
            raise CheckpointError(
                f"There is no folder `{model}`, and no hub model of that name is cached here.",
                hint="Check the spelling; the commands that use a hub model fetch it.",
            ) from error
        raise CheckpointError(
            f"There is no folder `{model}`, and the hub cannot be asked for it.",
            cause=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="Check the spelling and the network, or give the folder of a local copy.",
        ) from error
    finally:
        if quiet:
            enable_progress_bars()
