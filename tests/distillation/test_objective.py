"""The objective adds up what the settings name, and nothing else."""

from __future__ import annotations

import pytest
import torch

from puma_cli.config.settings import LossSettings
from puma_cli.distillation.objective import Embeddings, Objective
from puma_cli.errors import ConfigError
from puma_cli.losses import InfoNCE, MACLoss, feature_cosine, feature_mse, similarity_divergence

MODALITY = torch.tensor([0, 1, 0, 2])
NOTHING = torch.zeros(4, 4, dtype=torch.bool)


def states(seed: int) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    )


def test_the_paper_s_first_stage() -> None:
    """0.9 * InfoNCE + 0.1 * 0.05 * (MSE(q) + MSE(c))."""
    student, teacher = states(0), states(1)
    settings = LossSettings(contrastive_weight=0.9, temperature=0.05, mse=0.1 * 0.05)
    total, terms = Objective(settings)(student, teacher, MODALITY, NOTHING, progress=0.3)
    info_nce = InfoNCE(0.05)(student.queries, student.candidates)
    mse = feature_mse(student.queries, teacher.queries) + feature_mse(
        student.candidates, teacher.candidates
    )
    torch.testing.assert_close(total, 0.9 * info_nce + 0.005 * mse)
    assert terms.keys() == {"info_nce", "mse"}


def test_all_terms_with_their_weights() -> None:
    student, teacher = states(2), states(3)
    settings = LossSettings("mac", 0.5, 0.1, 0.7, False, mse=0.2, cosine=3.0, similarity=0.4)
    total, terms = Objective(settings)(student, teacher, MODALITY, NOTHING, progress=0.3)
    expected = {
        "mac": MACLoss(0.1, 0.7)(student.queries, student.candidates, MODALITY, 0.3),
        "mse": feature_mse(student.queries, teacher.queries)
        + feature_mse(student.candidates, teacher.candidates),
        "cosine": feature_cosine(student.queries, teacher.queries)
        + feature_cosine(student.candidates, teacher.candidates),
        "similarity": similarity_divergence(
            student.queries, student.candidates, teacher.queries, teacher.candidates, 0.1
        ),
    }
    torch.testing.assert_close(terms, expected)
    weights = {"mac": 0.5, "mse": 0.2, "cosine": 3.0, "similarity": 0.4}
    torch.testing.assert_close(total, sum(weights[name] * expected[name] for name in weights))


def test_excluded_negatives_reach_the_contrastive_loss() -> None:
    student = states(4)
    excluded = NOTHING.clone()
    excluded[0, 2] = True
    plain, masked = (
        Objective(LossSettings(temperature=1.0))(student, None, MODALITY, mask, 0.0)[0]
        for mask in (NOTHING, excluded)
    )
    assert masked < plain


def test_only_comparing_terms_need_a_teacher() -> None:
    assert not Objective(LossSettings()).needs_teacher
    assert all(
        Objective(LossSettings(**{name: 0.1})).needs_teacher  # type: ignore[arg-type]
        for name in ("mse", "cosine", "similarity")
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (LossSettings(contrastive_weight=0.0), "Every weight"),
        (LossSettings(mse=-1.0), r"loss\.mse is -1"),
        (LossSettings(temperature=0.0), "temperature is 0"),
        (LossSettings(contrastive="infonce"), "'infonce' is no contrastive loss"),
    ],
)
def test_senseless_settings_are_refused(settings: LossSettings, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Objective(settings)
