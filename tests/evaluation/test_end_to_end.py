"""The public function on a real, tiny checkpoint and a real, tiny data set."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from puma_cli.checkpoint.fingerprint import fingerprint
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.settings import EvaluateSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import CheckpointError, DataError, OutputError
from puma_cli.evaluation.comparison import compare
from puma_cli.evaluation.evaluate import evaluate
from puma_cli.evaluation.results import Scores
from puma_cli.evaluation.score_folder import read_scores
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.models.opening import load

Done = tuple[EvaluateSettings, Scores]

TASKS = "*_task1,*_task6"


@pytest.fixture(scope="module")
def done(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    settings = EvaluateSettings(
        model=str(tiny_checkpoint),
        data=tiny_scenes,
        output_dir=tmp_path_factory.mktemp("eval") / "scores",
        tasks=TASKS,
        pools=("local",),
        device="cpu",
    )
    return settings, evaluate(settings)


def test_the_folder_holds_everything(done: Done) -> None:
    settings, scores = done
    names = {path.name for path in settings.output_dir.iterdir()}
    files = {"scores.json", "per_query.jsonl", "results.tsv", "puma.json", "report.html"}
    assert names == files | {"runs"}
    again = read_scores(settings.output_dir)
    assert again.means == scores.means
    assert [row.task for row in again.rows] == ["scenes_task1", "scenes_task6"]
    provenance = read_provenance(settings.output_dir)
    assert provenance is not None
    assert provenance.command == "evaluate"
    assert provenance.settings["tasks"] == TASKS
    assert [(p.role, p.fingerprint) for p in provenance.parents] == [
        ("model", fingerprint(settings.model)),
        ("data", fingerprint(settings.data)),
    ]
    assert provenance.results["means"] == scores.means


def test_run_files_give_the_same_metrics_to_trec_eval(done: Done) -> None:
    settings, scores = done
    data = MbeirFolder(settings.data)
    for row in scores.rows:
        name = next(task for task in data.tasks("test") if task.name == row.task)
        lines = (settings.output_dir / "runs" / "local" / f"{row.task}.txt").read_text()
        columns = [line.split() for line in lines.splitlines()]
        assert {len(line) for line in columns} == {7}
        assert {(line[1], line[6]) for line in columns} == {("Q0", str(row.task_id))}
        ranks = [int(line[3]) for line in columns]
        assert ranks == list(range(1, 101)) * row.queries
        run: dict[str, dict[str, float]] = {}
        for qid, _, did, _, score, *_ in columns:
            run.setdefault(qid, {})[did] = float(score)
        judged = data.qrels("test", name)
        qrels = {qid: dict.fromkeys(judged[qid], 1) for qid in row.qids}
        measures = {"success.1,5,10", "ndcg_cut.10"}
        reference = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
        assert not row.ties.any(), "the comparison needs a run without ties"
        for k in (1, 5, 10):
            theirs = [reference[qid][f"success_{k}"] for qid in row.qids]
            assert row.values(f"hit@{k}").tolist() == theirs
        theirs = [reference[qid]["ndcg_cut_10"] for qid in row.qids]
        assert row.values("ndcg@10") == pytest.approx(np.array(theirs))


def test_an_open_model_scores_the_same(done: Done) -> None:
    settings, scores = done
    embedder = load(settings.model, "cpu")
    embedder.model.train()
    embedder.model.visual.eval()
    again = evaluate_embedder(embedder, settings.data, tasks=TASKS, batch_size=7)
    assert embedder.model.training
    assert not embedder.model.visual.training
    for before, after in zip(scores.rows, again.rows, strict=True):
        assert (before.ranks == after.ranks).mean() > 0.9  # batches round differently


def test_a_model_compared_with_itself_is_kept_whole(done: Done, tmp_path: Path) -> None:
    settings, _ = done
    result = compare([settings.output_dir, settings.output_dir], metric="hit@10", resamples=100)
    assert result.mean.cells[1].difference == 0


def test_an_output_folder_in_use_is_refused_and_replaced_when_asked(
    done: Done, tmp_path: Path
) -> None:
    settings, _ = done
    with pytest.raises(OutputError, match="not empty"):
        evaluate(settings)
    target = tmp_path / "scores"
    small = replace(settings, tasks="*_task1", limit=2, output_dir=target)
    evaluate(small)
    assert json.loads((target / "scores.json").read_text())["partial"]
    smaller = evaluate(replace(small, limit=1, overwrite=True))
    assert read_scores(target).rows[0].queries == smaller.rows[0].queries == 1


def test_nothing_is_left_behind_by_a_failure(done: Done, tmp_path: Path) -> None:
    settings, _ = done
    target = tmp_path / "new" / "scores"
    settings = replace(settings, output_dir=target)
    for broken, kind in (
        (replace(settings, model=str(tmp_path)), CheckpointError),
        (replace(settings, data=tmp_path / "nowhere"), DataError),
        (replace(settings, tasks="nothing"), DataError),
    ):
        with pytest.raises(kind):
            evaluate(broken)
        assert not target.parent.exists()


def test_scores_never_replace_the_model_or_the_data(
    done: Done, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    settings, _ = done
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    (model / "puma.json").write_text("{}")
    for folder in (model, settings.data):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(OutputError, match="which the result is made from"):
            evaluate(replace(settings, model=str(model), output_dir=folder, overwrite=True))
        assert sorted(path.name for path in folder.iterdir()) == before
