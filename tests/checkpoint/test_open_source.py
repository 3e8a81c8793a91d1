"""Of a model on the hub only what is needed is fetched, and it is what it was said to be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from puma_cli.checkpoint.fingerprint import fingerprint, full_hash, is_unchanged
from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.checkpoint.source import open_source
from puma_cli.errors import CheckpointError
from tests.checkpoint.fake_hub import COMMIT, MODEL, serve
from tests.checkpoint.models import write_base

TERMS = ("MODEL_LICENSE", "USE_POLICY.md", "vocab.spm")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a model in several shards, with the side files that repositories have."""
    folder = write_base(tmp_path_factory.mktemp("hub") / "model", max_shard_size="40KB")
    (folder / "modules.json").write_text('[{"path": ""}, {"path": "2_Dense"}, {"path": ".."}]')
    (folder / "2_Dense").mkdir()
    shutil.copy(next(folder.glob("*.safetensors")), folder / "2_Dense" / "model.safetensors")
    (folder / "modeling_own.py").write_text("raise SystemExit('code of a model was run')")
    for name in ("README.md", "tokenizer.model", "pytorch_model.bin", "notes.pdf", *TERMS):
        (folder / name).write_text(name)
    return folder


def test_a_local_folder_is_its_own_source(base_weights: Path) -> None:
    source = open_source(base_weights)
    assert source.folder == base_weights
    assert source.tensors == checkpoint_headers(base_weights)
    assert source.fingerprint() == fingerprint(base_weights)
    assert source.fingerprint(full=True) == full_hash(base_weights)
    source.fetch(["model.safetensors"])
    with pytest.raises(CheckpointError, match=r"misses its shard `gone\.safetensors`"):
        source.fetch(["gone.safetensors"])


def test_only_texts_headers_and_needed_shards_are_fetched(repository: Path, tmp_path: Path) -> None:
    shards = sorted(path.name for path in repository.glob("model-*.safetensors"))
    code = f"""
source = open_source(MODEL + "@main")
def names():
    files = source.folder.rglob("*")
    return sorted(path.relative_to(source.folder).as_posix() for path in files)
before, prints = names(), [source.fingerprint(), source.fingerprint(full=True)]
source.fetch([{shards[1]!r}])
after = names()
source.fetch({shards!r})
tensors = {{
    name: [entry.dtype, entry.shape, entry.file.name, entry.start, entry.end]
    for name, entry in source.tensors.items()
}}
tell(folder=str(source.folder), before=before, after=after, prints=prints, tensors=tensors,
     whole=source.fingerprint())
"""
    with serve(repository) as hub:
        answer = hub.ask(tmp_path, code)
    expected = {
        name: [entry.dtype, list(entry.shape), entry.file.name, entry.start, entry.end]
        for name, entry in checkpoint_headers(repository).items()
    }
    assert answer["tensors"] == expected
    texts = ["2_Dense", "2_Dense/model.safetensors", "README.md", "config.json"]
    texts += ["model.safetensors.index.json", "modeling_own.py", "modules.json", "tokenizer.model"]
    texts += TERMS
    assert answer["before"] == sorted(texts)
    assert answer["after"] == sorted([*texts, shards[1]])
    assert answer["prints"] == [f"commit:{COMMIT}"] * 2
    # Once all is here the snapshot has the same fingerprint as any folder.
    folder = Path(str(answer["folder"]))
    assert answer["whole"] == fingerprint(folder)
    assert is_unchanged(folder, f"commit:{COMMIT}")
    assert not is_unchanged(folder, "commit:" + "0" * 40)


def test_headers_of_large_weights_cost_one_small_part(tmp_path: Path, base_weights: Path) -> None:
    folder = Path(shutil.copytree(base_weights, tmp_path / "model"))
    weights = folder / "model.safetensors"
    raw = weights.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    filler = 3_000_000
    end = len(raw) - 8 - length
    header["filler"] = {"dtype": "U8", "shape": [filler], "data_offsets": [end, end + filler]}
    header["__metadata__"] = {"note": "x" * 600_000}  # longer than the first part that is read
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :] + bytes(filler))
    code = "source = open_source(MODEL)\ntell(tensors=sorted(source.tensors))"
    with serve(folder) as hub:
        answer = hub.ask(tmp_path / "cache", code)
        assert hub.sent["model.safetensors"] < 1_000_000
    assert answer["tensors"] == sorted(checkpoint_headers(folder))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("revision", "has no revision `v9`"),
        ("model", "There is no model `some-org/other`"),
        ("pickles", "pickled weights only"),
        ("no-ranges", "does not send parts of files"),
        ("broken", "the file is truncated"),
        ("other", "another file than its header said"),
        ("no-shard", "misses its shard"),
        ("no-config", "has no `config.json`"),
    ],
)
def test_what_can_be_wrong_with_a_hub_model_is_one_sentence(
    repository: Path, tmp_path: Path, change: str, says: str
) -> None:
    folder = Path(shutil.copytree(repository, tmp_path / "model"))
    shard = sorted(folder.glob("model-*.safetensors"))[-1]
    if change == "pickles":
        for file in folder.glob("model*safetensors*"):
            file.unlink()
    if change == "broken":
        shard.write_bytes(shard.read_bytes()[:-1])
    if change == "no-shard":
        shard.unlink()
    if change == "no-config":
        (folder / "config.json").unlink()
    model = {"revision": f"{MODEL}@v9", "model": "some-org/other"}.get(change, MODEL)
    code = f"""
from pathlib import Path
try:
    source = open_source({model!r})
    if {change!r} == "other":
        file = Path({str(shard)!r})
        file.write_bytes(file.read_bytes().replace(b"weight", b"WEIGHT"))
    source.fetch([{shard.name!r}])
    tell(error="")
except CheckpointError as error:
    tell(error=str(error))
"""
    with serve(folder) as hub:
        hub.ranges = change != "no-ranges"
        answer = hub.ask(tmp_path / "cache", code)
    assert says in str(answer["error"])


def test_without_the_hub_the_cache_is_used(repository: Path, tmp_path: Path) -> None:
    code = """
source = open_source(MODEL)
source.fetch({entry.file.name for entry in source.tensors.values()})
tell(tensors=sorted(source.tensors))
"""
    with serve(repository) as hub:
        first = hub.ask(tmp_path, code)
    again = "import os\nos.environ['HF_HUB_OFFLINE'] = '1'\n" + code
    assert hub.ask(tmp_path, again) == first  # the server is gone
    with pytest.raises(CheckpointError, match="cannot be asked"):
        open_source("some-org/never-seen")
