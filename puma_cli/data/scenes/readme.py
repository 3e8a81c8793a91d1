"""The page that lies in a data set's folder."""

from __future__ import annotations

from collections.abc import Mapping

_PAGE = """# scenes: a drawn benchmark for multimodal retrieval

{val_targets} validation and {test_targets} test targets in the M-BEIR layout, data set id 11,
made by

    puma data scenes --seed {seed} --train-scenes {train_scenes} \\
        --test-targets {test_targets} --val-targets {val_targets} --output-dir DIR

A scene is two things (six colours, six shapes, two sizes), one left of or above the other, on one
of four backgrounds. Tasks 0-2 ask in words for an image, a caption or both; 3 and 4 ask with a
picture; 6-8 ask for a change to a picture. A candidate of both image and text shows the things on
a neutral ground, and its text tells the background: only both together say which scene it is.

- Training queries: {train_queries}; training candidates: {train_pool}.
- Validation queries: {val_queries}; test queries: {test_queries}.
- Candidates of each task's local pool: {local_pool}; of the union pool: {union_pool}.

Which pairs of coloured shapes belong to training, validation and test is fixed, whatever the seed;
training shows none of the others. Every target has its near twins in the pool. Three in ten of the
text queries leave out sizes or the background; every candidate that fits them is a positive.
"""


def readme(seed: int, sizes: Mapping[str, int], counts: Mapping[str, int]) -> str:
    """Return the README of a data set made from `seed` and `sizes` that holds `counts`."""
    return _PAGE.format(seed=seed, **sizes, **counts)
