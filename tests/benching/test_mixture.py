"""The made-up mixture."""

from collections import Counter
from pathlib import Path

from PIL import Image

from puma_cli.benching.mixture import INSTRUCTION, LONGEST, SHORTEST, make_mixture


def test_a_third_each_and_the_same_each_time(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    queries, candidates = make_mixture(one, 9, 40, seed=3)
    again, _ = make_mixture(two, 9, 40, seed=3)
    for side in (queries, candidates):
        assert Counter(entry.modality for entry in side) == {
            "text": 3,
            "image": 3,
            "image,text": 3,
        }
    assert {entry.instruction for entry in queries} == {INSTRUCTION}
    assert {entry.instruction for entry in candidates} == {None}
    assert [entry.text for entry in queries] == [entry.text for entry in again]
    for entry, other in zip(queries, again, strict=True):
        if entry.image and other.image:
            assert entry.image.read_bytes() == other.image.read_bytes()
            assert Image.open(entry.image).size == (40, 40)
    lengths = [len(entry.text.split()) for entry in [*queries, *candidates] if entry.text]
    assert SHORTEST <= min(lengths) < max(lengths) <= LONGEST


def test_texts_alone(tmp_path: Path) -> None:
    queries, candidates = make_mixture(tmp_path, 4, 40, images=False)
    assert {entry.modality for entry in [*queries, *candidates]} == {"text"}
    assert not list(tmp_path.iterdir())
