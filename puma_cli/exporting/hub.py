"""Putting an export on the hub."""

from __future__ import annotations

from pathlib import Path

from puma_cli.errors import ConfigError, OutputError


def check_name(name: str) -> None:
    """Raise ConfigError for what cannot be the name of a model on the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(
            f"The hub can have no model of the name {name!r}.",
            cause=str(error).splitlines()[0],
            hint="Write ORG/NAME, such as --push-to-hub my-org/my-student.",
        ) from error


def push(folder: Path, name: str, private: bool) -> str:
    """Upload a folder as the model `name`, such as `org/model`; return the commit's address.

    Raises:
        OutputError: the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Export a model of puma"
        )
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        raise OutputError(
            f"The export could not be uploaded as {name}.",
            cause=str(error).splitlines()[0],
            hint=f"It lies complete in {folder}. `hf auth login` signs you in; "
            f"`hf upload {name} {folder}` uploads it.",
        ) from error
    return str(done.commit_url)
