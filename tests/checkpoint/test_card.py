"""Cards carry what a reader and the hub need."""

from __future__ import annotations

from pathlib import Path

import yaml

from puma_cli.checkpoint.card import licence_of, write_card


def test_a_card_has_front_matter_facts_and_usage(tmp_path: Path) -> None:
    write_card(
        tmp_path,
        "A title",
        summary="What it is.",
        facts=[("kept layers", "0-2 | 3")],
        name="pruned",
        metadata={"license": "apache-2.0", "base_model": "org/name"},
    )
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["base_model"] == "org/name"
    assert front["library_name"] == "transformers"
    assert "# A title" in text
    assert "| kept layers | 0-2 \\| 3 |" in text
    assert 'folder = "pruned"' in text
    assert licence_of(tmp_path) == "apache-2.0"


def test_no_card_names_no_licence(tmp_path: Path) -> None:
    assert licence_of(tmp_path) is None
    (tmp_path / "README.md").write_text("# only a title\nlicense: mit\n")
    assert licence_of(tmp_path) is None
