"""The images of MMEB: in a folder, or in an archive that is unpacked as far as it is needed."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile

from puma_cli.encoding.cache_folder import cache_folder
from puma_cli.errors import DataError, ImageError

# Where the images lie below a data set that was fetched and unpacked as its authors say.
_FOLDERS = ("", "images", "eval_images", "MMEB", "image-tasks", "image-tasks/MMEB")
_ARCHIVE = "images.zip"
# A photograph has a few; an archive can claim any size for what it holds.
_MOST_BYTES = 1 << 30


class MmebImages:
    """Finds the images that the tables of a folder name.

    Args:
        root: the folder of the tables.
        place: a folder of images or an archive; by default those beside the tables.

    Raises:
        DataError: there is no such place, or it is no zip archive.
    """

    def __init__(self, root: Path, place: Path | None = None) -> None:
        usual = [root / name for name in _FOLDERS] + [root.parent / name for name in _FOLDERS]
        folders = usual if place is None else [place]
        self._folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        archives = [root / _ARCHIVE, root.parent / _ARCHIVE] if place is None else [place]
        found = next((path for path in archives if path.is_file()), None)
        self._archive = None if found is None else _Archive(found)
        if place is not None and not self._folders and self._archive is None:
            raise DataError(f"There is neither a folder nor an archive {place}.")
        self._found: dict[str, Path] = {}
        # What the tables call each file.
        self.names: dict[Path, str] = {}

    def find(self, name: str) -> Path:
        """Return the file of an image; one in an archive is unpacked first.

        Raises:
            ImageError: it is not there, or is broken in the archive.
            ValueError: the path leads out of the folder.
        """
        path = self._found.get(name)
        if path is None:
            path = self._found[name] = self._look(name)
            self.names[path] = name
        return path

    def _look(self, name: str) -> Path:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\0" in name:
            raise ValueError(f"the path {name[:80]!r} leads out of the data set's folder")
        for folder in self._folders:
            path = folder / relative
            if path.is_file():
                # The others share its place.
                self._folders = [folder]
                return path
        if self._archive is not None:
            return self._archive.unpack(relative)
        raise ImageError(
            f"The image {name[:200]} is missing.",
            hint="The images are published as an archive; fetch images.zip into the folder of the "
            "tables, or name its place with --images.",
            path=Path(name),
        )


class _Archive:
    """A zip archive whose members go to a folder of the cache, each when it is first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = zipfile.ZipFile(path)
            stat = path.stat()
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(
                f"The archive {path} cannot be read.",
                cause=str(error),
                hint="Fetch it again: it may be cut short.",
            ) from error
        self._names = set(self._file.namelist())
        self._prefix: str | None = None
        # Another archive under the same name is another folder.
        identity = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino)
        key = hashlib.sha256(repr(identity).encode()).hexdigest()[:24]
        self._folder = cache_folder() / "images" / key

    def unpack(self, name: PurePosixPath) -> Path:
        """Return the file that a member was unpacked to."""
        path = self._folder / name
        if path.is_file():
            return path
        content = self._read(self._member(name), path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as draft:
            draft.write(content)
        Path(draft.name).replace(path)
        return path

    def _member(self, name: PurePosixPath) -> zipfile.ZipInfo:
        if self._prefix is None:
            self._prefix = self._prefix_of(str(name))
        member = f"{self._prefix or ''}{name}"
        if member not in self._names:
            raise ImageError(
                f"The image {str(name)[:200]} is missing.",
                cause=f"The archive {self._path} does not have it.",
                path=Path(name),
            )
        return self._file.getinfo(member)

    def _prefix_of(self, name: str) -> str | None:
        """Return the folder that all images have in common, known by the first one asked for."""
        if name in self._names:
            return ""
        found = sorted(member for member in self._names if member.endswith(f"/{name}"))
        return found[0].removesuffix(name) if found else None

    def _read(self, member: zipfile.ZipInfo, path: Path) -> bytes:
        try:
            if member.file_size > _MOST_BYTES:
                raise zipfile.BadZipFile(f"It claims to hold {member.file_size:,} bytes.")
            # Reads no more than the member claims, and compares its checksum.
            return self._file.read(member)
        except Exception as error:  # what unpacking broken or unusual archives raises
            raise ImageError(
                f"The image {member.filename} cannot be unpacked.",
                cause=f"{self._path}: {error}",
                path=path,
            ) from error
