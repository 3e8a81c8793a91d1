"""The baseline of sentence-transformers learns what puma's losses say, on the same batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ablations.app import main
from ablations.peer import without_torchvision
from ablations.records import read_results

from puma_cli.config.settings import ExportSettings
from puma_cli.config.training_settings import DistillSettings, LossSettings
from puma_cli.data.examples import Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation.objective import Embeddings, Objective
from puma_cli.exporting.export import export
from puma_cli.losses import Labels
from puma_cli.models.opening import load

pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")


@pytest.mark.slow
def test_a_student_is_trained_scored_and_timed(words: list[str], asked: Path) -> None:
    (asked / "questions" / "x.yaml").write_text(
        "title: t\ndata: {tiny: {seeds: [0]}}\nvariants:\n  peer: {train: sentence-transformers}\n"
        "  as it is: {train: none}\n"
    )
    there = ["--results", str(asked / "results"), "--work-dir", str(asked / "work")]
    assert main([*words, "run", *there, "--device", "cpu", "--together"]) == 0
    lines = {line["trainer"]: line for line in read_results(asked / "results").lines.values()
             if line["layers"] == [0, 1]}  # fmt: skip
    peer = lines["sentence-transformers"]
    assert peer["trained_by"].startswith("sentence-transformers ") and peer["steps"] == 3
    assert peer["pairs_per_second"] > 0 and peer["peak_memory"] > 50e6
    assert peer["scores"]["local"] != lines[""]["scores"]["local"]


def test_its_losses_are_the_same_numbers(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path
) -> None:
    from ablations.sentence_transformers_student import add_gradients, losses_of, teach
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "exported"
    export(ExportSettings(str(tiny_checkpoint), folder, verify=False))
    without_torchvision(folder)
    data = MbeirFolder(tiny_scenes)
    queries = data.train_queries("*_task7")
    examples = Examples(queries, data.union_pool("train"), data.instructions, "first", 0)
    batch = examples.batch(range(6), epoch=0)
    assert len(batch.candidates) == 6 and not batch.labels.excluded.any()
    # Itself in the other order of queries: a teacher that differs from the student.
    taught = teach(str(tiny_checkpoint), [batch], torch.device("cpu"))
    taught = dict(zip(taught, reversed(list(taught.values())), strict=True))
    loss = LossSettings(contrastive_weight=0.7, symmetric=True, cosine=2.0)
    settings = DistillSettings("s", tiny_scenes, tmp_path / "out", loss=loss)
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    model.eval()
    with torch.enable_grad():
        found = add_gradients(model, losses_of(model, settings), batch, taught)
    embedder = load(tiny_checkpoint, "cpu")
    rows = torch.cat([embedder.embed(embedder.collate([entry])) for entry in batch.inputs])
    theirs = torch.stack([taught[entry] for entry in batch.inputs])
    labels: Labels = batch.labels
    expected, _ = Objective(loss)(
        Embeddings.of(rows, 6), Embeddings.of(theirs, 6), labels, progress=0.0
    )
    assert found == pytest.approx(expected.item(), rel=1e-4)
    expected.backward()
    ours = {n: p.grad for n, p in embedder.model.named_parameters() if p.grad is not None}
    norm = torch.stack([value.norm() for value in ours.values()]).norm()
    peers = [p.grad for p in model.parameters() if p.grad is not None]
    assert torch.stack([value.norm() for value in peers]).norm() == pytest.approx(
        norm.item(), rel=1e-3
    )
