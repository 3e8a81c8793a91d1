"""Ways in which data can be broken, lie, or try to lead out of their folder, by class."""

from tests.evaluation.mutations import files, lines, pictures, tables
from tests.evaluation.mutations.classes import CLASSES

__all__ = ["CLASSES", "files", "lines", "pictures", "tables"]
