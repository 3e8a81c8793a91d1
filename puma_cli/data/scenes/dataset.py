"""Makes a complete scenes data set in the M-BEIR layout."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.output_folder import new_folder
from puma_cli.checkpoint.provenance import describe, write_provenance
from puma_cli.data.scenes.families import make_plan
from puma_cli.data.scenes.readme import readme
from puma_cli.data.scenes.writing import write_data_set
from puma_cli.progress import SILENT, Reporter


def make_scenes(
    output_dir: str | Path,
    *,
    seed: int = 0,
    train_scenes: int = 10_000,
    test_targets: int = 200,
    val_targets: int = 60,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Write a data set of drawn scenes; the same arguments give the same bytes, `puma.json` apart.

    Args:
        output_dir: the folder to make.
        seed: decides scenes, words and pictures, not which compositions are held out.
        train_scenes: training scenes, 1 or more; each gives a query for every task.
        test_targets: test queries per task, 1 or more.
        val_targets: validation queries per task, 1 or more.
        overwrite: replace a data set that is there.
        reporter: is told how many scenes are drawn.

    Returns:
        `output_dir` as a path.

    Raises:
        ConfigError: a size is below 1, or asks for more scenes than there are.
        OutputError: the folder is taken or cannot be written.
    """
    target = Path(output_dir)
    sizes = {
        "train_scenes": train_scenes,
        "test_targets": test_targets,
        "val_targets": val_targets,
    }
    plan = make_plan(seed, **sizes)
    with new_folder(target, overwrite=overwrite) as root:
        counts = write_data_set(root, plan, seed, reporter)
        (root / "README.md").write_text(readme(seed, sizes, counts), encoding="utf-8")
        settings = {"output_dir": target, "seed": seed, **sizes}
        write_provenance(root, describe("make_scenes", settings, results=counts))
    return target
