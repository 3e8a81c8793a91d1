"""Files that are not there, are empty, or are something else."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from pathlib import Path
from random import Random

from tests.evaluation.mutations.base import MBEIR, MMEB
from tests.evaluation.mutations.classes import line_files, mutation


@mutation("files missing or of another kind")
def other_files(root: Path, random: Random) -> Path:
    paths = line_files(root, "query", "cand_pool", "qrels", "instructions")
    path = random.choice(paths)
    way = random.randrange(6)
    if way == 0:
        path.unlink()
    elif way == 1:
        path.write_bytes(b"")
    elif way == 2:
        path.unlink()
        path.mkdir()
    elif way == 3:
        path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    elif way == 4:
        # A task's own pool may well be everybody's.
        others = [each for each in paths if each != path and each.parent.name != "global"]
        shutil.copyfile(random.choice(others), path)
    else:
        path.write_bytes(path.read_text().encode(random.choice(("utf-16", "utf-32"))))
    return root / MBEIR


@mutation("archives of images")
def archives(root: Path, random: Random) -> Path:
    path = root / MMEB / "images.zip"
    whole = path.read_bytes()
    way = random.randrange(5)
    if way == 0:
        path.write_bytes(whole[: random.randrange(len(whole))])
    elif way == 1:
        content = bytearray(whole)
        for _ in range(random.randrange(1, 20)):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(bytes(content))
    elif way == 2:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        # The first eight shades are those that the tables name.
        members.pop(random.choice([name for name in members if int(Path(name).stem) < 40]))
        with zipfile.ZipFile(path, "w") as archive:
            for name, content_of in members.items():
                archive.writestr(name, content_of)
    elif way == 3:
        path.unlink()
    else:
        path.write_bytes(random.randbytes(2000))
    return root / MMEB
