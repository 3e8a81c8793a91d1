"""How to read each figure of a training."""

from __future__ import annotations

from puma_cli.report.training_history import TrainingHistory

# For readers who cannot see the figures.
LABELS = {
    "validation": "Mean hit rate on validation queries by step",
    "tasks": "Hit rate of each task by step",
    "loss": "Loss and the weighted terms that it is the sum of, by step",
    "answers": "Share of answers found within the batch, and of pairs left out, by step",
    "optimizer": "Learning rate and gradient norm by step",
    "temperatures": "Temperatures of the contrastive loss by step",
    "speed": "Pairs and tokens a second and memory by step",
}


def caption(name: str, history: TrainingHistory) -> str:
    """Return the sentences below the figure `name`, one of `LABELS`."""
    if name == "validation":
        return _validation(history)
    if name == "answers":
        return _answers(history)
    return {
        "tasks": (
            "A row is a task, a column a validation; the denser the cell, the more queries find "
            "their answer first, and a row that pales to the right has unlearnt something."
        ),
        "loss": (
            "The areas are the terms times their weights and add up to the loss: a term that is "
            "thin from the start has hardly a say, and one that stays while the others fall is "
            "what the training cannot meet."
        ),
        "optimizer": (
            "A norm far above the limit means that most steps are shortened, so that a higher "
            "learning rate changes little; a norm that rises late warns of a rate that is too high."
        ),
        "temperatures": (
            "The lower a temperature, the more the loss looks at the nearest negatives alone; one "
            "that falls to .005 has met the end of its range. Sharpening is the factor on it for "
            "candidates of the positive's own modality."
        ),
        "speed": (
            "Steps alone, without validations and saves, and tokens without padding: a fall means "
            "that something else wants the machine, or that batches wait for their images."
        ),
    }[name]


def _validation(history: TrainingHistory) -> str:
    limit = history.setting("train.validation_limit")
    text = (
        f"Each point is the mean over tasks of hit@1 on up to {limit} validation queries of each, "
        "searched in the task's own pool; the weights of the best step, at the dashed line, are "
        "those that are kept."
    )
    if history.teacher is None:
        return text
    return f"{text} The right scale is the share of the teacher's hit@1 on the same queries."


def _answers(history: TrainingHistory) -> str:
    text = (
        "A query counts as answered where its positive beats all its negatives of that kind: where "
        "those of its own modality lag behind the others, modality alone no longer helps, and a "
        "curve near 100% says that the batch has nothing left to teach."
    )
    if history.series("masked"):
        text += " Left out are pairs that are known or thought to be no negatives."
    return text
