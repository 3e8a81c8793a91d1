"""A cut folder opens where puma was never heard of, and gives the same vectors."""

from __future__ import annotations

from pathlib import Path

from puma_cli.config.settings import PruneSettings
from puma_cli.pruning.prune import prune
from tests.stock_loaders import check_cards


def test_the_cards_own_code_gives_pumas_vectors(parents: dict[str, Path], tmp_path: Path) -> None:
    folders = [tmp_path / form / "cut" for form in ("base", "stock", "untied", "half", "newer")]
    for folder in folders:
        model = str(parents[folder.parent.name])
        prune(PruneSettings(model=model, output_dir=folder, keep=2, verify="none"))
    check_cards(folders, tmp_path)
