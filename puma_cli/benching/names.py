"""Short names for the models of a bench, no two alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def short_names(models: Sequence[str]) -> list[str]:
    """Return each model's last path part, with as many before it as tell it from the others.

    The same model named twice gets a number.
    """
    parts = [Path(model).parts or (model,) for model in models]
    depth = 1
    longest = max(map(len, parts))
    while depth < longest and len({part[-depth:] for part in parts}) < len(set(parts)):
        depth += 1
    names = ["/".join(part[-depth:]) for part in parts]
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
