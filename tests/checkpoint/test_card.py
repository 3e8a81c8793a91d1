"""Cards carry what a reader and the hub need."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from puma_cli.checkpoint.card import inherited_metadata, write_card


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
    assert inherited_metadata(tmp_path) == {"license": "apache-2.0", "base_model": "org/name"}


@pytest.mark.parametrize(
    "front",
    [
        "# only a title\nlicense: mit\n",
        "---\nlicense: [mit\n---\n",
        "---\n- license\n---\n",
        "---\nlicense: {a: b}\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
    ],
)
def test_a_broken_card_hands_nothing_on(tmp_path: Path, front: str) -> None:
    assert inherited_metadata(tmp_path) == {}
    (tmp_path / "README.md").write_text(front)
    assert inherited_metadata(tmp_path) == {}


def test_a_licence_of_its_own_keeps_its_name_and_link(tmp_path: Path) -> None:
    own = "license: other\nlicense_name: qwen\nlicense_link: LICENSE"
    (tmp_path / "README.md").write_text(f"---\n{own}\ntags:\n- x\n---\n# Parent\n")
    found = {"license": "other", "license_name": "qwen", "license_link": "LICENSE"}
    assert inherited_metadata(tmp_path) == found
