"""The notebook in `examples/` runs from a clean kernel, and ships without what it printed."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent.parent / "examples" / "tour.ipynb"


def test_it_ships_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    options = {
        "timeout": 600,
        "kernel_name": "python3",
        "resources": {"metadata": {"path": str(tmp_path)}},
    }
    client(notebook, **options).execute()
    printed = json.dumps(notebook.cells)
    assert "times as fast for one query" in printed
    assert "image/png" in printed
