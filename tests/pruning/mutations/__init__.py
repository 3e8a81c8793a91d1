"""Ways in which a checkpoint can be broken, lie or try to lead out of its folder, by class."""

from tests.pruning.mutations import texts, weights
from tests.pruning.mutations.editing import CLASSES, OUTSIDE, Mutate

__all__ = ["CLASSES", "OUTSIDE", "Mutate", "texts", "weights"]
