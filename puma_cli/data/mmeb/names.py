"""The data sets of MMEB, and the groups that their scores are averaged over."""

from __future__ import annotations

from typing import Final

IND: Final = "IND"
OOD: Final = "OOD"

# Meta-task -> data sets that models may be trained on, and those that they may not.
META_TASKS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "classification": {
        IND: ("ImageNet-1K", "N24News", "HatefulMemes", "VOC2007", "SUN397"),
        OOD: ("Place365", "ImageNet-A", "ImageNet-R", "ObjectNet", "Country211"),
    },
    "VQA": {
        IND: ("OK-VQA", "A-OKVQA", "DocVQA", "InfographicsVQA", "ChartQA", "Visual7W"),
        OOD: ("ScienceQA", "VizWiz", "GQA", "TextVQA"),
    },
    "retrieval": {
        IND: (
            *("VisDial", "CIRR", "VisualNews_t2i", "VisualNews_i2t"),
            *("MSCOCO_t2i", "MSCOCO_i2t", "NIGHTS", "WebQA"),
        ),
        OOD: ("FashionIQ", "Wiki-SS-NQ", "OVEN", "EDIS"),
    },
    "grounding": {
        IND: ("MSCOCO",),
        OOD: ("RefCOCO", "RefCOCO-Matching", "Visual7W-Pointing"),
    },
}

IMAGE_SETS: Final = tuple(
    name for halves in META_TASKS.values() for names in halves.values() for name in names
)

# What MMEB-V2 has besides; nothing here reads videos or pages of documents.
VIDEO_SETS: Final = (
    *("K700", "SmthSmthV2", "HMDB51", "UCF101", "Breakfast"),
    *("MVBench", "Video-MME", "NExTQA", "EgoSchema", "ActivityNetQA"),
    *("DiDeMo", "MSR-VTT", "MSVD", "VATEX", "YouCook2"),
    *("QVHighlight", "Charades-STA", "MomentSeeker"),
)
DOCUMENT_SETS: Final = (
    *("ViDoRe_arxivqa", "ViDoRe_docvqa", "ViDoRe_infovqa", "ViDoRe_tabfquad", "ViDoRe_tatdqa"),
    "ViDoRe_shiftproject",
    *(
        f"ViDoRe_syntheticDocQA_{field}"
        for field in (
            "artificial_intelligence",
            "energy",
            "government_reports",
            "healthcare_industry",
        )
    ),
    "ViDoRe_esg_reports_human_labeled_v2",
    *(
        f"ViDoRe_{field}_v2_multilingual"
        for field in ("biomedical_lectures", "economics_reports", "esg_reports")
    ),
    *(
        f"VisRAG_{name}"
        for name in ("ArxivQA", "ChartQA", "MP-DocVQA", "SlideVQA", "InfoVQA", "PlotQA")
    ),
    *("ViDoSeek-page", "ViDoSeek-doc", "MMLongBench-page", "MMLongBench-doc"),
)


def groups() -> dict[str, tuple[str, ...]]:
    """Return the groups of image data sets by name: all, IND, OOD and the four meta-tasks."""
    halves = {
        half: tuple(name for parts in META_TASKS.values() for name in parts[half])
        for half in (IND, OOD)
    }
    metas = {meta: (*parts[IND], *parts[OOD]) for meta, parts in META_TASKS.items()}
    return {"all": IMAGE_SETS, **halves, **metas}


def place_of(name: str) -> tuple[str, str]:
    """Return a data set's meta-task, and whether it is IND or OOD; empty for one of no group."""
    for meta, halves in META_TASKS.items():
        for half, names in halves.items():
            if name in names:
                return meta, half
    return "", ""
