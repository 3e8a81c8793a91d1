"""The adapter for mteb: tasks made of a data set give mteb the scores that `puma eval` gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from puma_cli.cli.app import run
from puma_cli.config.settings import ExportSettings
from puma_cli.data.mbeir import MbeirFolder, TaskName
from puma_cli.data.records import TASK_MODALITIES
from puma_cli.evaluation.score_folder import read_scores
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.exporting.export import export
from puma_cli.models.opening import load
from tests.exporting.conftest import without_torchvision

mteb = pytest.importorskip("mteb")


def task_of(root: Path, number: int) -> Any:
    """Return a retrieval task of mteb that holds a task of a data set."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    folder, name = MbeirFolder(root), TaskName("scenes", number)

    def rows(entries: list[Any], ids: list[str], modality: str) -> Any:
        found: list[dict[str, Any]] = [{"id": each} for each in ids]
        for row, entry in zip(found, entries, strict=True):
            if "text" in modality:
                row["text"] = entry.text
            if "image" in modality:
                row["image"] = Image.open(entry.image).convert("RGB")
        return Dataset.from_list(found)

    class Scenes(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Scenes{number}",
            description="Scenes.",
            dataset={"path": "local/scenes", "revision": "1"},
            type="Retrieval" if number == 1 else "Any2AnyRetrieval",
            category="t2t" if number == 1 else "t2i",
            modalities=["text"] if number == 1 else ["text", "image"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            if self.data_loaded:
                return
            queries, pool = folder.queries("test", name), folder.local_pool(name, "test")
            asked, found = TASK_MODALITIES[number]
            self.dataset = {
                "default": {
                    "test": {
                        "queries": rows(queries, [query.qid for query in queries], asked),
                        "corpus": rows(pool, [each.did for each in pool], found),
                        "relevant_docs": {
                            qid: dict.fromkeys(sorted(dids), 1)
                            for qid, dids in folder.qrels("test", name).items()
                        },
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    return Scenes()


@pytest.mark.parametrize("number", [1, 0])
def test_mteb_and_puma_agree(tiny_checkpoint: Path, tiny_scenes: Path, number: int) -> None:
    from puma_cli.evaluation.mteb_model import MtebModel

    folder = MbeirFolder(tiny_scenes)
    queries = folder.queries("test", TaskName("scenes", number))
    prompt = folder.instructions.pick(queries[0])
    assert prompt is not None
    model = MtebModel(tiny_checkpoint, device="cpu", prompts={f"Scenes{number}": prompt})
    result = mteb.evaluate(model, [task_of(tiny_scenes, number)], cache=None)
    (found,) = result[0].scores["test"]
    row = evaluate_embedder(load(tiny_checkpoint, "cpu"), folder).row(f"scenes_task{number}")
    assert not row.ties.any()
    assert found["ndcg_at_10"] == pytest.approx(row.score("ndcg@10"), abs=2e-5)
    assert found["mrr_at_10"] == pytest.approx(row.score("mrr@10"), abs=2e-5)
    assert 0 < row.score("ndcg@10") < 1


@pytest.mark.parametrize("number", [1, 0])
def test_mteb_scores_an_exported_model_as_puma_eval_does(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path, number: int
) -> None:
    """mteb opens the export as it opens any folder of sentence-transformers; no code is puma's."""
    theirs = pytest.importorskip("sentence_transformers")
    folder = MbeirFolder(tiny_scenes)
    prompt = folder.instructions.pick(folder.queries("test", TaskName("scenes", number))[0])
    prompts = (f"query={prompt}",)
    settings = ExportSettings(str(tiny_checkpoint), tmp_path / "out", prompts=prompts, verify=False)
    export(settings)
    opened = without_torchvision(settings.output_dir, tmp_path / "opened")
    # What sentence-transformers tells mteb of a folder on this disk says nothing of images.
    model = mteb.models.SentenceTransformerEncoderWrapper(
        theirs.SentenceTransformer(str(opened), device="cpu")
    )
    model.mteb_model_meta.modalities = ["text", "image"]
    result = mteb.evaluate(model, [task_of(tiny_scenes, number)], cache=None)
    (found,) = result[0].scores["test"]
    words = ["eval", str(settings.output_dir), "--data", str(tiny_scenes), "--no-cache"]
    assert run([*words, "--device", "cpu", "-o", str(tmp_path / "scores")]) == 0
    row = read_scores(tmp_path / "scores").row(f"scenes_task{number}")
    assert found["ndcg_at_10"] == pytest.approx(row.score("ndcg@10"), abs=2e-5)
    assert found["mrr_at_10"] == pytest.approx(row.score("mrr@10"), abs=2e-5)
    assert 0 < row.score("ndcg@10") < 1


def test_instructions_are_mtebs_own_where_none_is_given(
    tiny_checkpoint: Path, tiny_scenes: Path
) -> None:
    from mteb.types import PromptType

    from puma_cli.evaluation.mteb_model import MtebModel

    task = task_of(tiny_scenes, 1).metadata
    model = MtebModel(tiny_checkpoint, device="cpu")
    assert model._instruction(task, PromptType.document) is None
    assert model._instruction(task, PromptType.query) == "Retrieve text based on user query."
    bare = MtebModel(tiny_checkpoint, device="cpu", prompts={"Scenes1": ""})
    assert bare._instruction(task, PromptType.query) is None
    assert model.mteb_model_meta.revision == bare.mteb_model_meta.revision
    assert model.mteb_model_meta.embed_dim == 32
