"""Everything beside weights and config that a cut checkpoint takes from its parent."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.links import checked_file, open_regular
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.errors import CheckpointError
from puma_cli.models.family_names import EMBEDS
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.writing.template_file import set_template
from puma_cli.report.numbers import size_on_disk

# What loaders read; weights in other formats would still hold every layer.
_SUFFIXES: Final = frozenset(
    {".json", ".txt", ".jinja", ".model", ".py", ".tiktoken", ".yaml", ".yml", ".spm", ".bpe"}
)
_LEGAL: Final = re.compile(r"LICEN[CS]E|NOTICE|COPYING|COPYRIGHT|USE_POLICY", re.IGNORECASE)
_WEIGHTS: Final = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".onnx", ".gguf", ".h5", ".msgpack"}
)
_REWRITTEN: Final = frozenset({layout.CONFIG, layout.PROVENANCE, layout.CARD})
_NOT_OURS: Final = frozenset({layout.TRAINING, layout.LAST, layout.STAGES, "trainer_state.json"})
# No tokenizer or template comes near; a data set in the folder does.
_LARGEST: Final = 512 * 2**20
_LARGEST_MODULES: Final = 2**20
_OLD_HEAD: Final = "a head belongs to the layers that it was fitted after"


@dataclass(frozen=True)
class SideFiles:
    """What a cut takes along.

    Args:
        taken: files to copy, relative to the parent.
        left: names of what one might miss in the result, each with the reason.
    """

    taken: tuple[Path, ...]
    left: tuple[tuple[str, str], ...]


def find_side_files(parent: Path) -> SideFiles:
    """Return tokenizer, processors, templates, modules, licences and custom code of a checkpoint.

    Raises:
        CheckpointError: `modules.json` or `embedder.json` is broken, or a file is a link that leads
            out of the checkpoint.
    """
    taken: list[Path] = []
    left: list[tuple[str, str]] = []
    modules = _module_folders(parent)
    for path in _entries(parent):
        if path.name in _REWRITTEN | _NOT_OURS:
            continue
        if stat.S_ISDIR(path.lstat().st_mode):
            _add_folder(parent, path, modules, taken, left)
        elif _is_side_file(path):
            _add(parent, path, taken, left, _LARGEST)
    head = _head_of(parent)
    if head:
        left.append((head, _OLD_HEAD))
    return SideFiles(tuple(taken), tuple(left))


def copy_side_files(
    parent: Path, folder: Path, reporter: Reporter = SILENT, *, keeps_head: bool = False
) -> list[str]:
    """Copy a checkpoint's side files into `folder` and return their names.

    The reporter is told what stays behind that one might miss.

    Args:
        keeps_head: the caller writes the head, so that nobody misses it.

    Raises:
        CheckpointError: a side file cannot be read, or is a link that leads out of the checkpoint.
    """
    found = find_side_files(parent)
    for name, reason in found.left:
        if keeps_head and reason == _OLD_HEAD:
            continue
        reporter.note(f"Left out: {name} ({reason}).")
    for path in found.taken:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # A hub snapshot is made of links into a cache: copy what they point to.
        with open_regular(checked_file(parent, parent / path)) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)
    return [path.as_posix() for path in found.taken]


def check_embeds(parent: Path) -> None:
    """Raise CheckpointError unless a checkpoint is one that puma can embed with."""
    from puma_cli.models.embedder_settings import settings_for

    model_type = read_object(parent / layout.CONFIG).get("model_type")
    if model_type not in EMBEDS:
        raise CheckpointError(
            f"`{parent.name}` is of the architecture `{model_type}`, which puma does not embed "
            "with.",
            cause=f"Only such models can have a bridge; these are {', '.join(sorted(EMBEDS))}.",
            hint="Leave --bridge and --data away.",
        )
    settings_for(parent)


def write_embedder_files(parent: Path, folder: Path, reporter: Reporter = SILENT) -> bool:
    """Make the folder say how it embeds, if the parent only implied it.

    The prompt and the pixel limits also go where plain transformers looks for them, so that stock
    loaders make the same vectors.

    Returns:
        whether puma can embed with the model; one that it cannot embed with is left as it is.

    Raises:
        CheckpointError: the parent's own `embedder.json` is broken.
    """
    from puma_cli.models.embedder_settings import write_embedder_settings
    from puma_cli.models.importing.found import find_settings

    embedded = (parent / layout.EMBEDDER).is_file()
    model_type = read_object(parent / layout.CONFIG).get("model_type")
    if not embedded and model_type not in EMBEDS:
        return False
    try:
        found = find_settings(parent)
    except CheckpointError as error:
        if embedded:
            raise
        if (parent / layout.LAYOUT.modules).is_file():
            reporter.note(f"It will not embed: {error.problem}")
        return False  # such as one without a token to embed at: still a model like any other
    settings = found.settings
    if embedded:
        return True
    if not found.imported and not settings.sees:
        return True  # a language model like any other, whose chat template is its own
    write_embedder_settings(settings, folder)
    if (parent / layout.LAYOUT.modules).is_file():
        return True  # stock loaders are told by the modules, which stay as they are
    if settings.sees:
        reporter.note(
            f"Prompts end on {settings.embed_token}, and images have at most "
            f"{settings.max_pixels:,} pixels: {layout.CHAT_TEMPLATE} and {layout.PREPROCESSOR} now "
            "say so too."
        )
    set_template(folder, settings.template)
    if settings.sees:
        limit_pixels(folder, settings.image_size)
    return True


def limit_pixels(folder: Path, limits: dict[str, int]) -> None:
    """Make a folder's image processor keep to limits of pixels, as it takes them itself."""
    for name in (layout.PREPROCESSOR, layout.LAYOUT.processor):
        path = folder / name
        if path.is_file():
            content = read_object(path)
            inner = content.get("image_processor")
            _limit_pixels(inner if isinstance(inner, dict) else content, limits)
            write_json(path, content)


def _limit_pixels(content: dict[str, Any], limits: dict[str, int]) -> None:
    content["size"] = dict(limits)
    # Older processors have names of their own for the same limits, which would win.
    for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if old in content:
            content[old] = limits[new]


def _add_folder(
    parent: Path,
    path: Path,
    modules: set[PurePosixPath],
    taken: list[Path],
    left: list[tuple[str, str]],
) -> None:
    """Add a folder's files: all of a module's, and those of a folder that holds no weights."""
    inside = list(_walk(path))
    own = [file for file in inside if _within(file.relative_to(parent), modules)]
    for file in own:
        _add(parent, file, taken, left, None)
    others = [file for file in inside if file not in own]
    if any(file.name == layout.PROVENANCE for file in others):
        return  # another result, such as a cut that was put here
    if any(file.suffix in _WEIGHTS for file in others):
        left.append((f"{path.name}/", "it holds weights of every layer"))
        return
    for file in others:
        if _is_side_file(file):
            _add(parent, file, taken, left, _LARGEST)


def _add(
    parent: Path, path: Path, taken: list[Path], left: list[tuple[str, str]], largest: int | None
) -> None:
    name = path.relative_to(parent)
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        left.append((name.as_posix(), "not a regular file"))
        return
    size = checked_file(parent, path).stat().st_size
    if largest is not None and size > largest:
        left.append((name.as_posix(), f"{size_on_disk(size)} is more than any side file has"))
        return
    taken.append(name)


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what a folder holds, by name; hidden files and links to folders are not ours."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"`{folder}` cannot be read.", cause=f"{error.strerror}.") from error
    for path in found:
        if not path.name.startswith(".") and not (path.is_symlink() and path.is_dir()):
            yield path


def _walk(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        if stat.S_ISDIR(path.lstat().st_mode):
            if path.name != "__pycache__":
                yield from _walk(path)
        else:
            yield path


def _is_side_file(path: Path) -> bool:
    if ".index." in path.name:
        return False
    if path.suffix in _WEIGHTS:
        return False
    return path.suffix in _SUFFIXES or _LEGAL.search(path.name) is not None


def _within(name: Path, modules: set[PurePosixPath]) -> bool:
    return any(PurePosixPath(name.as_posix()).is_relative_to(module) for module in modules)


def _module_folders(parent: Path) -> set[PurePosixPath]:
    """Return the folders of sentence-transformers modules, which may hold weights of their own."""
    path = parent / layout.LAYOUT.modules
    if not os.path.lexists(path):
        return set()
    folders = set()
    for module in _read_modules(parent, path):
        name = module.get("path") if isinstance(module, dict) else None
        if not isinstance(name, str) or not _is_inside(PurePosixPath(name)):
            raise CheckpointError(
                f"`{path}` names the module {name!r}, which is no folder of the checkpoint.",
                hint="Download or copy the checkpoint again.",
            )
        # The model itself lies at the top.
        if PurePosixPath(name) != PurePosixPath():
            folders.add(PurePosixPath(name))
            if str(module.get("type")).endswith(".Transformer"):
                raise CheckpointError(
                    f"`{path}` names a second model in `{name}`, which would not be cut.",
                    hint="Cut that folder by itself.",
                )
    return folders


def _is_inside(path: PurePosixPath) -> bool:
    return not path.is_absolute() and ".." not in path.parts


def _read_modules(parent: Path, path: Path) -> list[Any]:
    with open_regular(checked_file(parent, path)) as file:
        raw = file.read(_LARGEST_MODULES + 1)
    try:
        if len(raw) > _LARGEST_MODULES:
            raise ValueError(f"it has more than {_LARGEST_MODULES} bytes")
        modules = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"`{path}` cannot be read as JSON.", cause=str(error)) from error
    if not isinstance(modules, list):
        raise CheckpointError(f"`{path}` is no list of modules.")
    return modules


def _head_of(parent: Path) -> str:
    if not os.path.lexists(parent / layout.EMBEDDER):
        return ""
    head = read_object(parent / layout.EMBEDDER).get("head")
    return head if isinstance(head, str) else ""
