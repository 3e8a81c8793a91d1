"""What a query of each task is told to look for."""

from __future__ import annotations

from puma_cli.data.records import TASK_MODALITIES
from puma_cli.data.scenes.pools import DATASET, DATASET_ID

_PROMPTS: dict[int, tuple[str, str, str, str]] = {
    0: ("find the picture", "which picture fits", "get the picture", "pick the picture"),
    1: ("find the caption", "which caption fits", "get the caption", "pick the caption"),
    2: (
        "find the picture with text",
        "which picture with text fits",
        "get the picture with text",
        "pick the picture with text",
    ),
    3: ("describe this", "find its caption", "which caption fits this", "get its caption"),
    4: ("find the same scene", "which picture shows this", "get the same scene", "pick its twin"),
    6: (
        "find the caption after this change",
        "which caption fits once changed",
        "get the changed caption",
        "pick the changed caption",
    ),
    7: (
        "find the picture after this change",
        "which picture fits once changed",
        "get the changed picture",
        "pick the changed picture",
    ),
    8: (
        "find the picture with text after this change",
        "which picture with text fits once changed",
        "get the changed picture with text",
        "pick the changed picture with text",
    ),
}


def instructions_table() -> str:
    """Return the tab-separated table of instructions, four for each pair of modalities."""
    header = ["query_modality", "cand_modality", "dataset_name", "dataset_id"]
    lines = [[*header, "prompt_1", "prompt_2", "prompt_3", "prompt_4"]]
    for task, prompts in _PROMPTS.items():
        said = [f"{prompt[0].upper()}{prompt[1:]}." for prompt in prompts]
        lines.append([*TASK_MODALITIES[task], DATASET, str(DATASET_ID), *said])
    return "".join("\t".join(line) + "\n" for line in lines)
