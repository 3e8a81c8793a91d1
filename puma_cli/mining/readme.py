"""The page of a data set with mined negatives."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.layout import CARD
from puma_cli.checkpoint.output_folder import write_text
from puma_cli.config.settings import MineSettings
from puma_cli.mining.summary import COLUMNS, MineResult

_PAGE = """# {name} with negatives from {model}

Hard negatives, in the `neg_cand_list` of the training queries in `query/train/`:
{how}. `puma.json` has all settings.
Everything else is that of {name}: links to `{root}`.

{table}

Cosines are means: of each query's lowest-scoring positive, and of the negatives. `above the margin`
is the share of each query's {negatives} hardest candidates that were passed over, because they
score so near the positive that they may be answers too.
{reasons}
    puma distill STUDENT --data {folder} --output-dir student --set batch.negatives=2
"""

_ORIGIN = """
---

What {name} says of itself:

{text}"""


def write_readme(folder: Path, root: Path, settings: MineSettings, result: MineResult) -> None:
    """Write the page into `folder`, with that of the data set at `root` below it."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *result.rows()]
    page = _PAGE.format(
        name=root.name,
        model=settings.model,
        how=_choice(settings),
        root=root,
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
        negatives=settings.negatives,
        reasons="".join(f"\n{reason}\n" for reason in result.reasons()),
        folder=settings.output_dir,
    )
    if (root / CARD).is_file():
        text = (root / CARD).read_text(encoding="utf-8", errors="replace")
        page += _ORIGIN.format(name=root.name, text=text)
    write_text(folder / CARD, page)


def _choice(settings: MineSettings) -> str:
    """Return in words which candidates the settings choose."""
    nearest = "candidates that the model finds nearest"
    which = f"up to {settings.negatives}"
    if settings.sample:
        which += f" of the {settings.depth}"
    words = [f"{which} {nearest}"]
    if settings.skip:
        words.append(f"the first {settings.skip} passed over")
    if settings.relative_margin is not None:
        words.append(f"at most {settings.relative_margin:g} of their lowest positive's cosine")
    return ", ".join(words)
