"""The public names stay functions after every submodule is imported, and cost nothing before."""

import importlib
import pkgutil
import subprocess
import sys

import puma_cli

VERBS = ["analyze", "prune", "distill", "evaluate", "mine", "compare", "load", "inspect_folder"]


def test_every_public_name_resolves() -> None:
    for name in puma_cli.__all__:
        assert getattr(puma_cli, name) is not None
        assert name in dir(puma_cli)


def test_no_submodule_shadows_a_function() -> None:
    for module in pkgutil.walk_packages(puma_cli.__path__, "puma_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in [*VERBS, "make_scenes", "run_demo"]:
        assert callable(getattr(puma_cli, name)), name


def test_the_import_is_lazy() -> None:
    script = "import sys, puma_cli; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    printed = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert printed.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(puma_cli, "prunes")
