"""Put a trained puma-mini into the package, with a card that holds its scores.

python examples/puma_mini/package.py runs/puma-mini runs/puma-mini-scores [MINUTES]

MINUTES is the time that the training took, where its own record counts a suspension too.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import puma_cli
from puma_cli.checkpoint.card import write_card
from puma_cli.checkpoint.layout import CARD, PROVENANCE
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.evaluation.score_folder import read_scores

TARGET = Path(puma_cli.__file__).parent / "models" / "puma_mini"
TASKS = {
    0: "text to image",
    1: "text to text",
    2: "text to image+text",
    3: "image to text",
    4: "image to image",
    6: "image+text to text",
    7: "image+text to image",
    8: "image+text to image+text",
}
SUMMARY = """\
A small multimodal retriever: a stock Qwen2-VL architecture of 12 decoder layers with a vision tower
of 3, and a byte-level BPE tokenizer. It embeds text, images and image+text about *scenes*, drawn
pictures of two coloured shapes, and is there to try `puma` with: it is real, it is small, and it
knows nothing else.

It was trained from nothing by

```
puma data scenes --train-scenes 28000 --output-dir many-scenes
puma distill fresh --config puma-mini --data many-scenes --output-dir puma-mini
```

with seed {seed}, by InfoNCE on the final output alone, no teacher, no inner-layer losses:
{steps:,} steps, {minutes:.0f} minutes on 2 CPU cores. The compositions of the validation and test
splits were never shown; all choices were made on validation.

hit@1 and hit@5 in percent on the test split that `puma data scenes` draws, {queries:,} queries:

| task | hit@1, own pool | hit@5, own pool | hit@1, union pool |
|---|---|---|---|
{rows}
"""


def main(model: Path, scores_folder: Path, minutes: float | None = None) -> None:
    """Copy the checkpoint and write its card and history."""
    draft = TARGET.with_name(".puma_mini.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for path in sorted(model.iterdir()):
        if path.is_file() and path.name not in ("log.jsonl", CARD, PROVENANCE):
            shutil.copyfile(path, draft / path.name)
    history = json.loads((model / PROVENANCE).read_text(encoding="utf-8"))
    write_json(draft / PROVENANCE, _portable(history))
    _write_card(draft, history, scores_folder, minutes)
    shutil.rmtree(TARGET, ignore_errors=True)
    draft.rename(TARGET)
    print(TARGET)


def _portable(history: dict[str, Any]) -> dict[str, Any]:
    """Name folders as the documented command does, not as they lay on the trainer's machine."""
    names = {"data": "many-scenes", "output_dir": "puma-mini"}
    history["settings"] |= {**names, "resume": False, "stop_after": None}
    for parent in history["parents"]:
        parent["name"] = names.get(parent["role"], Path(parent["name"]).name)
    return history


def _write_card(
    folder: Path, history: dict[str, Any], scores_folder: Path, minutes: float | None
) -> None:
    scores = read_scores(scores_folder)
    rows = []
    for row in scores.of_pool("local"):
        task = int(row.task.rpartition("task")[2])
        union = scores.row(row.task, "union").score("hit@1")
        values = (row.score("hit@1"), row.score("hit@5"), union)
        rows.append(f"| {task}, {TASKS[task]} | " + " | ".join(map(_percent, values)) + " |")
    means = [
        scores.mean("hit@1", pool="local"),
        scores.mean("hit@5", pool="local"),
        scores.mean("hit@1", pool="union"),
    ]
    rows.append("| mean | " + " | ".join(f"**{_percent(mean)}**" for mean in means) + " |")
    progress = history["results"]["progress"]
    write_card(
        folder,
        "puma-mini",
        summary=SUMMARY.format(
            seed=history["seed"],
            steps=progress["step"],
            minutes=minutes or progress["seconds"] / 60,
            queries=sum(row.queries for row in scores.of_pool("local")),
            rows="\n".join(rows),
        ),
        metadata={"license": "apache-2.0"},
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:4]))
