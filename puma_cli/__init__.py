"""Layer-pruned, distilled multimodal retrievers: the public functions and their settings.

Everything is imported on first use, so that `import puma_cli` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from puma_cli.version import __version__

if TYPE_CHECKING:
    from puma_cli.benching.bench import bench
    from puma_cli.checkpoint.inspection import inspect_folder
    from puma_cli.config.index_settings import EmbedSettings, SearchSettings
    from puma_cli.config.settings import (
        AnalyzeSettings,
        BenchSettings,
        DemoSettings,
        EvaluateSettings,
        ExportSettings,
        MineSettings,
        PruneSettings,
    )
    from puma_cli.config.stages import TrainingStage
    from puma_cli.config.training_settings import DistillSettings
    from puma_cli.data.check.check import check_data
    from puma_cli.data.scenes.dataset import make_scenes
    from puma_cli.demo.stages import run_demo
    from puma_cli.diagnosis.diagnose import diagnose
    from puma_cli.distillation.distill import distill
    from puma_cli.distillation.stages import distill_stages
    from puma_cli.embedding.embed import embed
    from puma_cli.errors import PumaError
    from puma_cli.evaluation.comparison import compare
    from puma_cli.evaluation.evaluate import evaluate
    from puma_cli.exporting.export import export
    from puma_cli.mining.mine import mine
    from puma_cli.models.opening import load
    from puma_cli.profiling.analyze import analyze
    from puma_cli.profiling.comparison import compare_profiles
    from puma_cli.progress import Reporter
    from puma_cli.pruning.prune import prune
    from puma_cli.searching.searcher import open_searcher

_HOMES = {
    "analyze": "puma_cli.profiling.analyze",
    "prune": "puma_cli.pruning.prune",
    "distill": "puma_cli.distillation.distill",
    "distill_stages": "puma_cli.distillation.stages",
    "evaluate": "puma_cli.evaluation.evaluate",
    "export": "puma_cli.exporting.export",
    "embed": "puma_cli.embedding.embed",
    "mine": "puma_cli.mining.mine",
    "bench": "puma_cli.benching.bench",
    "open_searcher": "puma_cli.searching.searcher",
    "compare": "puma_cli.evaluation.comparison",
    "compare_profiles": "puma_cli.profiling.comparison",
    "diagnose": "puma_cli.diagnosis.diagnose",
    "load": "puma_cli.models.opening",
    "inspect_folder": "puma_cli.checkpoint.inspection",
    "make_scenes": "puma_cli.data.scenes.dataset",
    "check_data": "puma_cli.data.check.check",
    "run_demo": "puma_cli.demo.stages",
    "AnalyzeSettings": "puma_cli.config.settings",
    "BenchSettings": "puma_cli.config.settings",
    "PruneSettings": "puma_cli.config.settings",
    "DistillSettings": "puma_cli.config.training_settings",
    "EvaluateSettings": "puma_cli.config.settings",
    "ExportSettings": "puma_cli.config.settings",
    "MineSettings": "puma_cli.config.settings",
    "DemoSettings": "puma_cli.config.settings",
    "EmbedSettings": "puma_cli.config.index_settings",
    "SearchSettings": "puma_cli.config.index_settings",
    "TrainingStage": "puma_cli.config.stages",
    "PumaError": "puma_cli.errors",
    "Reporter": "puma_cli.progress",
}

__all__ = [
    "AnalyzeSettings",
    "BenchSettings",
    "DemoSettings",
    "DistillSettings",
    "EmbedSettings",
    "EvaluateSettings",
    "ExportSettings",
    "MineSettings",
    "PruneSettings",
    "PumaError",
    "Reporter",
    "SearchSettings",
    "TrainingStage",
    "__version__",
    "analyze",
    "bench",
    "check_data",
    "compare",
    "compare_profiles",
    "diagnose",
    "distill",
    "distill_stages",
    "embed",
    "evaluate",
    "export",
    "inspect_folder",
    "load",
    "make_scenes",
    "mine",
    "open_searcher",
    "prune",
    "run_demo",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
