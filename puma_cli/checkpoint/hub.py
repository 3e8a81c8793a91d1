"""Models on the hub: snapshots in its cache, and headers of weights that are not here yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.safetensors_header import (
    LENGTH_BYTES,
    Header,
    header_length,
    parse_header,
)
from puma_cli.errors import CheckpointError
from puma_cli.progress import SILENT, Reporter

KINDS = "a folder, `puma-mini` or a hub id such as `Qwen/Qwen2-VL-2B-Instruct`"
# Nearly every header fits this, so that one request is enough.
_FIRST_READ = 1 << 18
_THREADS = 8
_SECONDS = 30.0
_WORDS = {"model": "model", "dataset": "data set"}


def snapshot(
    model: str,
    patterns: Sequence[str],
    reporter: Reporter = SILENT,
    *,
    fetch: bool = True,
    kind: str = "model",
) -> Path:
    """Return the cached snapshot of a hub model, with the files that match fetched.

    Args:
        model: `org/name[@revision]`.
        patterns: shell patterns of the files that are needed.
        fetch: whether anything may be downloaded; otherwise it must be cached.
        kind: `model`, or `dataset` for data.

    Raises:
        CheckpointError: there is no such model or revision, it is gated, or the hub is silent.
    """
    from huggingface_hub import snapshot_download

    name, _, revision = model.partition("@")
    with _explained(model, fetch, _WORDS[kind]), _quiet(reporter):
        return Path(
            snapshot_download(
                name,
                repo_type=kind,
                revision=revision or None,
                allow_patterns=list(patterns),
                local_files_only=not fetch,
            )
        )


def repository_files(model: str) -> list[str]:
    """Return the names of all files of the hub model `org/name[@revision]`.

    Raises:
        CheckpointError: the hub cannot be asked.
    """
    from huggingface_hub import HfApi

    name, _, revision = model.partition("@")
    with _explained(model, True):
        return list(HfApi().list_repo_files(name, revision=revision or None))


def remote_headers(model: str, paths: Iterable[Path], reporter: Reporter = SILENT) -> list[Header]:
    """Return the headers of safetensors files of a hub model without downloading their tensors.

    Args:
        model: `org/name@revision`.
        paths: where the files will be; their names are those in the repository.

    Raises:
        CheckpointError: the hub cannot be asked, or a header breaks the format.
    """
    from concurrent.futures import ThreadPoolExecutor

    files = list(paths)
    with _explained(model, True), ThreadPoolExecutor(_THREADS) as pool:
        headers = pool.map(lambda path: _remote_header(model, path), files)
        return list(reporter.track(headers, "read headers", total=len(files)))


def _remote_header(model: str, path: Path) -> Header:
    from huggingface_hub import hf_hub_url

    name, _, revision = model.partition("@")
    url = hf_hub_url(name, path.name, revision=revision)
    start, size = _read(url, path, 0, _FIRST_READ)
    end = LENGTH_BYTES + header_length(path, start, size)
    if end > len(start):
        start += _read(url, path, len(start), end - len(start))[0]
    return parse_header(path, start[LENGTH_BYTES:end], size)


def _read(url: str, path: Path, start: int, length: int) -> tuple[bytes, int]:
    """Return `length` bytes of a file on the hub, fewer at its end, and the file's size."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        http_stream_backoff,
    )

    wanted = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
    with http_stream_backoff(
        "GET",
        url,
        headers={**build_hf_headers(), **wanted},
        timeout=_SECONDS,
        follow_redirects=True,
    ) as response:
        _check_status(response)
        place, _, size = response.headers.get("Content-Range", "").partition("/")
        # Without this a server that knows no ranges would send gigabytes.
        if response.status_code != 206 or not place.startswith(f"bytes {start}-"):
            raise CheckpointError(
                f"The header of `{path.name}` cannot be read from the hub.",
                cause="The server does not send parts of files.",
                hint="Download the whole model first, and name its folder.",
            )
        content = b""
        for piece in response.iter_bytes():
            content += piece
            if len(content) >= length:
                break
    return content[:length], int(size)


def _check_status(response: Any) -> None:
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    if response.is_error:
        response.read()  # the hub says why in the body
    hf_raise_for_status(response)


@contextmanager
def _quiet(reporter: Reporter) -> Iterator[None]:
    """Keep the hub's own bars, which would print, for reporters that listen."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    quiet = reporter is SILENT and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            enable_progress_bars()


@contextmanager
def _explained(model: str, fetch: bool, word: str = "model") -> Iterator[None]:
    """Turn the hub's errors into sentences."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = model.partition("@")
    try:
        yield
    except GatedRepoError as error:
        raise CheckpointError(
            f"The {word} `{name}` is gated.",
            cause="Its owners ask you to accept their terms first.",
            hint=f"Accept them at huggingface.co/{name}, then log in with `hf auth login`.",
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"The {word} `{name}` has no revision `{revision}`.",
            hint="Give a branch, a tag or a commit after the @, or nothing.",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"There is no {word} `{name}`, neither as a folder nor on the hub.",
            hint=f"A model is {KINDS}." if word == "model" else "Check the spelling.",
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise _unreachable(model, fetch, error, word) from error
    except Exception as error:
        # The hub's client raises errors of its transport, which are not of the system's family.
        if type(error).__module__.partition(".")[0].startswith("httpx"):
            raise _unreachable(model, fetch, error, word) from error
        raise


def _unreachable(model: str, fetch: bool, error: Exception, word: str) -> CheckpointError:
    if not fetch:
        return CheckpointError(
            f"There is no folder `{model}`, and no hub {word} of that name is cached here.",
            hint="Check the spelling; the commands that use one fetch it.",
        )
    return CheckpointError(
        f"There is no folder `{model}`, and the hub cannot be asked for it.",
        cause=str(error).splitlines()[0] if str(error) else type(error).__name__,
        hint="Check the spelling and the network, or give the folder of a local copy.",
    )
