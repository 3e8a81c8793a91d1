"""Which retrieved examples a demo shows."""

from pathlib import Path

import numpy as np

from puma_cli.config.settings import EvaluateSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.demo.examples import pick_examples
from puma_cli.evaluation.evaluate import evaluate
from puma_cli.evaluation.score_folder import read_scores


def test_examples_agree_with_the_scores_they_come_from(
    tmp_path: Path, tiny_checkpoint: Path, tiny_scenes: Path
) -> None:
    folder = tmp_path / "scores"
    evaluate(EvaluateSettings(str(tiny_checkpoint), tiny_scenes, folder, pools=("local",)))
    examples = pick_examples(tiny_scenes, {"a": folder, "b": folder})
    assert {example.task for example in examples} <= {f"scenes_task{n}" for n in (0, 3, 7)}
    assert examples
    scores = read_scores(folder)
    data = MbeirFolder(tiny_scenes)
    for example in examples:
        first, second = example.rankings
        assert first.found == second.found
        assert len(first.found) == 5
        task = next(task for task in data.tasks("test") if task.name == example.task)
        queries = data.queries("test", task)
        asked = (example.text, example.image)
        qid = next(query.qid for query in queries if (query.text, query.image) == asked)
        row = scores.row(example.task)
        place = row.qids.index(qid)
        assert first.rank == int(row.ranks[place])
        relevant = np.flatnonzero([found.relevant for found in first.found])
        if first.rank is not None and first.rank <= 5 and not row.ties[place]:
            assert relevant[0] + 1 == first.rank
        # The same model twice regains nothing, so only mistakes are left to show.
        assert first.rank != 1
