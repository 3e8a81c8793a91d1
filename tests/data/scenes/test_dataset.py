import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image

from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.records import TASK_MODALITIES
from puma_cli.data.scenes.compositions import split_of
from puma_cli.data.scenes.queries import TASKS
from puma_cli.data.scenes.scene import Scene
from puma_cli.errors import ConfigError, OutputError
from puma_cli.progress import Reporter
from tests.data.scenes.conftest import SIZES, make
from tests.data.scenes.reading import fits, follow, read_scene

SPLITS = ("val", "test")
T = TypeVar("T")
Rows = list[dict[str, Any]]


def rows(folder: Path, name: str) -> Rows:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def scenes_by_did(candidates: Rows) -> dict[str, Scene]:
    """Scenes by did; a scene's three candidates have the ids around its caption's."""
    scenes = {}
    for row in candidates:
        if row["modality"] == "text":
            number = int(row["did"].split(":")[1])
            for neighbour in (number - 1, number, number + 1):
                scenes[f"11:{neighbour}"] = read_scene(row["txt"])
    return scenes


@pytest.fixture(scope="module")
def train(small_scenes: Path) -> Rows:
    return rows(small_scenes, "query/train/mbeir_scenes_train.jsonl")


@pytest.fixture(scope="module")
def pools(small_scenes: Path) -> dict[str, Rows]:
    return {
        split: rows(small_scenes, f"cand_pool/global/mbeir_union_{split}_cand_pool.jsonl")
        for split in ("train", *SPLITS)
    }


def queries(folder: Path, split: str, task: int) -> Rows:
    return rows(folder, f"query/{split}/mbeir_scenes_task{task}_{split}.jsonl")


def test_the_layout_is_complete(small_scenes: Path) -> None:
    expected = {
        "README.md",
        "puma.json",
        "instructions/query_instructions.tsv",
        "query/train/mbeir_scenes_train.jsonl",
        "query/union_train/mbeir_union_up_train.jsonl",
        "query/union_val/mbeir_union_val.jsonl",
        "qrels/train/mbeir_scenes_train_qrels.txt",
    }
    for split in ("train", *SPLITS):
        expected.add(f"cand_pool/global/mbeir_union_{split}_cand_pool.jsonl")
    for task in TASKS:
        expected.add(f"cand_pool/local/mbeir_scenes_task{task}_cand_pool.jsonl")
        for split in SPLITS:
            expected.add(f"query/{split}/mbeir_scenes_task{task}_{split}.jsonl")
            expected.add(f"qrels/{split}/mbeir_scenes_task{task}_{split}_qrels.txt")
    files = {path.relative_to(small_scenes).as_posix() for path in small_scenes.rglob("*.*")}
    assert {name for name in files if not name.endswith(".png")} == expected


def test_the_reader_takes_every_split_and_pool(small_scenes: Path) -> None:
    data = MbeirFolder(small_scenes)
    assert len(data.train_queries()) == 8 * SIZES["train_scenes"]
    for split in SPLITS:
        tasks = data.tasks(split)
        assert tuple(task.task_id for task in tasks) == TASKS
        for task in tasks:
            found = data.queries(split, task)
            assert len(found) == SIZES[f"{split}_targets"]
            dids = {candidate.did for candidate in data.local_pool(task, split)}
            assert dids <= {candidate.did for candidate in data.union_pool(split)}
            relevant = data.qrels(split, task)
            for query in found:
                assert set(query.positives) == relevant[query.qid]
                assert relevant[query.qid] <= dids


def test_each_pair_of_modalities_has_four_different_instructions(small_scenes: Path) -> None:
    instructions = MbeirFolder(small_scenes).instructions
    for task in TASKS:
        prompts = instructions.prompts("11", *TASK_MODALITIES[task])
        assert len(set(prompts)) == 4
        assert all(len(prompt.split()) <= 8 for prompt in prompts)


def test_ids_are_unique_and_modalities_as_the_task_says(
    small_scenes: Path, train: Rows, pools: dict[str, Rows]
) -> None:
    everything = [*train]
    for split in SPLITS:
        for task in TASKS:
            everything += queries(small_scenes, split, task)
    assert len({row["qid"] for row in everything}) == len(everything)
    modality = {row["did"]: row["modality"] for pool in pools.values() for row in pool}
    assert len(modality) == len(pools["train"]) + len(pools["test"])
    for row in everything:
        query_modality, wanted = TASK_MODALITIES[row["task_id"]]
        assert row["query_modality"] == query_modality
        assert (row["query_txt"] is not None) == ("text" in query_modality)
        assert (row["query_img_path"] is not None) == ("image" in query_modality)
        assert row["pos_cand_list"]
        named = [*row["pos_cand_list"], *row["neg_cand_list"]]
        assert {modality[did] for did in named} == {wanted}
        assert len(named) == len(set(named))


def test_every_picture_named_is_there_and_no_other(
    small_scenes: Path, train: Rows, pools: dict[str, Rows]
) -> None:
    named: Counter[str | None] = Counter(
        row["img_path"] for pool in (pools["train"], pools["test"]) for row in pool
    )
    shown = {row["query_img_path"] for row in train}
    for split in SPLITS:
        for task in TASKS:
            shown |= {row["query_img_path"] for row in queries(small_scenes, split, task)}
    del named[None]
    shown.discard(None)
    assert set(named.values()) == {1}
    assert not shown & set(named), "a query shows a candidate's own file"
    found = {path.relative_to(small_scenes).as_posix() for path in small_scenes.rglob("*.png")}
    assert found == shown | set(named)
    for name in sorted(found)[::50]:
        with Image.open(small_scenes / name) as picture:
            assert (picture.size, picture.mode) == ((56, 56), "RGB")


def test_union_files_repeat_the_parts(
    small_scenes: Path, train: Rows, pools: dict[str, Rows]
) -> None:
    assert rows(small_scenes, "query/union_train/mbeir_union_up_train.jsonl") == train
    parts = [row for task in TASKS for row in queries(small_scenes, "val", task)]
    assert rows(small_scenes, "query/union_val/mbeir_union_val.jsonl") == parts
    assert pools["val"] == pools["test"]


def test_candidates_of_both_modalities_tell_only_the_background(pools: dict[str, Rows]) -> None:
    scenes = scenes_by_did(pools["test"])
    for row in pools["test"]:
        if row["modality"] == "image,text":
            assert row["txt"] == f"on a {scenes[row['did']].background} background"
            assert "/neutral/" in row["img_path"]


def test_a_text_query_lists_all_that_fit_it_and_is_no_caption(
    small_scenes: Path, train: Rows, pools: dict[str, Rows]
) -> None:
    for pool, found in [
        (pools["train"], train),
        *((pools[s], [r for t in TASKS for r in queries(small_scenes, s, t)]) for s in SPLITS),
    ]:
        scenes = scenes_by_did(pool)
        captions = {row["txt"] for row in pool}
        dids = {
            modality: [row["did"] for row in pool if row["modality"] == modality]
            for modality in ("image", "text", "image,text")
        }
        partial = 0
        for row in found:
            if row["query_modality"] == "text":
                said = read_scene(row["query_txt"])
                own = dids[TASK_MODALITIES[row["task_id"]][1]]
                assert set(row["pos_cand_list"]) == {d for d in own if fits(scenes[d], said)}
                assert row["query_txt"] not in captions
                partial += not (said.first.size and said.background)
            else:
                assert len(row["pos_cand_list"]) == 1
        assert partial


def test_an_edit_leads_from_its_picture_to_its_only_positive(
    small_scenes: Path, train: Rows, pools: dict[str, Rows]
) -> None:
    # Tasks 3 and 4 tell which scene a query picture shows.
    scenes = scenes_by_did([*pools["train"], *pools["test"]])
    everything = [*train]
    for split in SPLITS:
        everything += [row for task in TASKS for row in queries(small_scenes, split, task)]
    shown = {
        row["query_img_path"]: scenes[row["pos_cand_list"][0]]
        for row in everything
        if row["task_id"] in (3, 4)
    }
    checked = 0
    for row in everything:
        source = shown.get(row["query_img_path"])
        if row["task_id"] in (6, 7, 8) and source:
            (did,) = row["pos_cand_list"]
            assert follow(row["query_txt"], source) == scenes[did] != source
            checked += 1
    assert checked > SIZES["train_scenes"]


def test_training_shows_training_compositions_only(train: Rows, pools: dict[str, Rows]) -> None:
    assert all(split_of(scene) == "train" for scene in scenes_by_did(pools["train"]).values())
    dids = {row["did"] for row in pools["train"]}
    for row in train:
        assert dids.issuperset([*row["pos_cand_list"], *row["neg_cand_list"]])


def test_targets_are_of_their_split(small_scenes: Path, pools: dict[str, Rows]) -> None:
    scenes = scenes_by_did(pools["test"])
    for split in SPLITS:
        for task in (3, 4, 6, 7, 8):
            for row in queries(small_scenes, split, task):
                assert split_of(scenes[row["pos_cand_list"][0]]) == split


def test_negatives_are_near_twins_that_do_not_fit(train: Rows, pools: dict[str, Rows]) -> None:
    scenes = scenes_by_did(pools["train"])
    for row in train:
        said = read_scene(row["query_txt"]) if row["task_id"] < 3 else None
        for did in row["neg_cand_list"]:
            assert did not in row["pos_cand_list"]
            assert said is None or not fits(scenes[did], said)
    assert sum(len(row["neg_cand_list"]) for row in train) / len(train) > 4


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "puma.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_set(
    small_scenes: Path, tmp_path: Path
) -> None:
    again = content(make(tmp_path / "again"))
    other = content(make(tmp_path / "other", seed=1))
    assert again == content(small_scenes)
    assert again.keys() != other.keys() or again != other
    for name in (
        "query/train/mbeir_scenes_train.jsonl",
        "mbeir_images/scenes_images/train/query/00000.png",
    ):
        assert again[name] != other[name]


def test_provenance_tells_how_it_was_made(small_scenes: Path) -> None:
    provenance = read_provenance(small_scenes)
    assert provenance is not None
    assert provenance.command == "make_scenes"
    assert provenance.seed == 0
    assert provenance.settings.items() >= SIZES.items()
    assert provenance.results["train_queries"] == 8 * SIZES["train_scenes"]


def test_the_readme_names_the_sizes(small_scenes: Path) -> None:
    text = (small_scenes / "README.md").read_text()
    assert "--train-scenes 120" in text
    assert "data set id 11" in text


def test_a_taken_folder_is_left_alone_unless_told(tmp_path: Path) -> None:
    few = {"train_scenes": 2, "test_targets": 1, "val_targets": 1}
    folder = make(tmp_path / "data", **few)
    before = content(folder)
    with pytest.raises(OutputError, match="not empty"):
        make(folder, seed=1, **few)
    assert content(folder) == before
    make(folder, seed=1, overwrite=True, **few)
    assert content(folder) != before


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [0, -1, 50_000])
def test_impossible_sizes_are_refused_before_anything_is_written(
    tmp_path: Path, name: str, size: int
) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {size}"):
        make(tmp_path / "data", **{name: size})
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    class Impatient(Reporter):
        def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
            yield next(iter(items))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "data", reporter=Impatient())
    assert list(tmp_path.iterdir()) == []
