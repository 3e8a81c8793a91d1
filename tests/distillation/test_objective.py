"""The objective adds up what the settings name, and nothing else."""

from __future__ import annotations

import pytest
import torch

from puma_cli.config.training_settings import LossSettings, OptimizerSettings
from puma_cli.distillation.hints import hint_depths
from puma_cli.distillation.objective import Embeddings, Objective
from puma_cli.distillation.optimizer import build_optimizer
from puma_cli.errors import ConfigError
from puma_cli.losses import (
    InfoNCE,
    Labels,
    MACLoss,
    false_negatives,
    feature_cosine,
    feature_mse,
    similarity_divergence,
)

MODALITY = torch.tensor([0, 1, 0, 2])
NOTHING = torch.zeros(4, 4, dtype=torch.bool)


def labels(excluded: torch.Tensor = NOTHING) -> Labels:
    return Labels(torch.arange(4), excluded, torch.tensor([1, 1, 0, 2]), MODALITY)


def states(seed: int) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    )


def test_the_paper_s_first_stage() -> None:
    """0.9 * InfoNCE + 0.1 * 0.05 * (MSE(q) + MSE(c))."""
    student, teacher = states(0), states(1)
    settings = LossSettings(contrastive_weight=0.9, temperature=0.05, mse=0.1 * 0.05)
    total, terms = Objective(settings)(student, teacher, labels(), progress=0.3)
    info_nce = InfoNCE(0.05)(student.queries, student.candidates)
    mse = feature_mse(student.queries, teacher.queries) + feature_mse(
        student.candidates, teacher.candidates
    )
    torch.testing.assert_close(total, 0.9 * info_nce + 0.005 * mse)
    assert terms.keys() == {"info_nce", "masked", "mse"}


def test_all_terms_with_their_weights() -> None:
    student, teacher = states(2), states(3)
    settings = LossSettings("mac", 0.5, 0.1, 0.7, False, mse=0.2, cosine=3.0, similarity=0.4)
    total, terms = Objective(settings)(student, teacher, labels(), progress=0.3)
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
    assert terms.pop("masked") == 0
    torch.testing.assert_close(terms, expected)
    weights = {"mac": 0.5, "mse": 0.2, "cosine": 3.0, "similarity": 0.4}
    torch.testing.assert_close(total, sum(weights[name] * expected[name] for name in weights))


def test_excluded_negatives_reach_the_contrastive_loss() -> None:
    student = states(4)
    excluded = NOTHING.clone()
    excluded[0, 2] = True
    plain, masked = (
        Objective(LossSettings(temperature=1.0))(student, None, labels(mask), 0.0)[0]
        for mask in (NOTHING, excluded)
    )
    assert masked < plain


def test_only_comparing_terms_need_a_teacher() -> None:
    assert not Objective(LossSettings()).needs_teacher
    assert all(
        Objective(LossSettings(**{name: 0.1})).needs_teacher  # type: ignore[arg-type]
        for name in ("mse", "cosine", "similarity", "gram", "false_negative_margin")
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (LossSettings(contrastive_weight=0.0), "Every weight"),
        (LossSettings(mse=-1.0), r"loss\.mse is -1"),
        (LossSettings(temperature=0.0), "temperature is 0"),
        (LossSettings(contrastive="infonce"), "'infonce' is no contrastive loss"),
        (LossSettings(temperatures=(0.1,) * 9), "InfoNCE has one|contrastive is info_nce"),
        (LossSettings("mac", temperatures=(0.1,) * 4), "has 4 values"),
        (LossSettings(contrastive_weight=0, mse=1, dimensions=(4,)), "loss.dimensions is set"),
    ],
)
def test_senseless_settings_are_refused(settings: LossSettings, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Objective(settings)


def test_the_teacher_s_favourites_are_masked() -> None:
    student, teacher = states(5), states(6)
    plain = Objective(LossSettings(temperature=1.0))
    margin = Objective(LossSettings(temperature=1.0, false_negative_margin=0.0))
    likely = false_negatives(teacher.queries, teacher.candidates, torch.arange(4), 0.0)
    assert likely.any()
    total, terms = margin(student, teacher, labels(), 0.0)
    torch.testing.assert_close(total, plain(student, None, labels(likely), 0.0)[0])
    assert terms["masked"] == likely.float().mean()


def test_prefixes_are_part_of_the_contrastive_term() -> None:
    student = states(7)
    found, _ = Objective(LossSettings(dimensions=(2, 4)))(student, None, labels(), 0.0)
    each = [InfoNCE(0.05)(student.queries[:, :d], student.candidates[:, :d]) for d in (2, 4, 6)]
    torch.testing.assert_close(found, torch.stack(each).mean())
    with pytest.raises(ConfigError, match="names 7, but the embeddings have 6"):
        Objective(LossSettings(dimensions=(7,)))(student, None, labels(), 0.0)


def test_only_a_learned_temperature_joins_what_is_trained() -> None:
    model = torch.nn.Linear(2, 2)
    assert Objective(LossSettings()).trained_with(model) is model
    learned = Objective(LossSettings(learn_temperature=True)).trained_with(model)
    assert {name for name, _ in learned.named_parameters()} == {
        "model.weight",
        "model.bias",
        "objective.contrastive.temperature.log_value",
    }
    groups = build_optimizer(learned, OptimizerSettings(weight_decay=0.1)).param_groups
    decays = {id(value): group["weight_decay"] for group in groups for value in group["params"]}
    named = dict(learned.named_parameters())
    assert decays[id(named["model.weight"])] == 0.1
    assert decays[id(named["objective.contrastive.temperature.log_value"])] == 0.0


def test_temperatures_in_use_are_named() -> None:
    assert Objective(LossSettings(temperature=0.07)).temperatures(0.5) == {
        "temperature": pytest.approx(0.07)
    }
    table = Objective(LossSettings("mac", temperatures=tuple(0.01 * n for n in range(1, 10))))
    found = table.temperatures(0.5)
    assert found["temperature image > text"] == pytest.approx(0.04)
    assert found["sharpening"] == pytest.approx(0.6065, abs=1e-4)


def test_a_bank_is_a_set_of_candidates_for_both_sides() -> None:
    student, teacher = states(0), states(1)
    bank = torch.randn(7, 6, generator=torch.Generator().manual_seed(5))
    total, terms = Objective(LossSettings(contrastive_weight=0.0, bank=2.0, temperature=0.1))(
        student, teacher, labels(), 0.0, bank
    )
    expected = similarity_divergence(student.everything, bank, teacher.everything, bank, 0.1)
    torch.testing.assert_close(terms["bank"], expected)
    torch.testing.assert_close(total, 2.0 * expected)


def test_a_projection_comes_before_what_compares_entries_and_before_nothing_else() -> None:
    student, teacher = states(0), states(1)
    settings = LossSettings(mse=1.0, cosine=1.0, gram=1.0, projection="learned")
    objective = Objective(settings)
    objective.add_projection(6, 6)
    assert objective.projection is not None
    with torch.no_grad():
        objective.projection.weight.copy_(2.0 * torch.eye(6))
        objective.projection.bias.fill_(0.5)
    _, terms = objective(student, teacher, labels(), 0.0)
    _, plain = Objective(LossSettings(mse=1.0, cosine=1.0, gram=1.0))(
        student, teacher, labels(), 0.0
    )
    for name, term in (("mse", feature_mse), ("cosine", feature_cosine)):
        expected = term(2.0 * student.queries + 0.5, teacher.queries)
        expected = expected + term(2.0 * student.candidates + 0.5, teacher.candidates)
        torch.testing.assert_close(terms[name], expected)
    for name in ("info_nce", "gram"):
        torch.testing.assert_close(terms[name], plain[name])
    trained = objective.trained_with(torch.nn.Linear(2, 2))
    assert "objective.projection.weight" in dict(trained.named_parameters())
    fixed = Objective(LossSettings(mse=1.0, projection="ridge"))
    fixed.add_projection(6, 4)
    assert not any(value.requires_grad for value in fixed.parameters())


def test_hints_compare_what_follows_the_embeddings() -> None:
    generator = torch.Generator().manual_seed(3)
    ours, theirs = (torch.randn(9, 6 + 8, generator=generator) for _ in range(2))
    student, teacher = (Embeddings.of(rows, 4, 8) for rows in (ours, theirs))
    assert student.queries.shape == (4, 6) and student.candidates.shape == (5, 6)
    assert torch.equal(student.everything, ours[:, :6])
    settings = LossSettings(contrastive_weight=0.0, hints=3.0)
    total, terms = Objective(settings)(student, teacher, labels(), 0.0)
    torch.testing.assert_close(terms["hints"], (ours[:, 6:] - theirs[:, 6:]).square().mean())
    torch.testing.assert_close(total, 3.0 * terms["hints"])


@pytest.mark.parametrize(
    ("student", "teacher", "chosen", "expected"),
    [
        (4, 12, (), ([1, 2, 3], [3, 6, 9])),
        (12, 28, (4, 8, 8), ([4, 8], [9, 19])),
        (2, 2, (1,), ([1], [1])),
    ],
)
def test_hints_lie_at_the_same_share_of_the_layers(
    student: int, teacher: int, chosen: tuple[int, ...], expected: tuple[list[int], list[int]]
) -> None:
    assert hint_depths(student, teacher, chosen) == expected


@pytest.mark.parametrize(("student", "chosen"), [(1, ()), (4, (4,)), (4, (0, 2))])
def test_hints_need_an_inner_layer(student: int, chosen: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="inner depths of the student"):
        hint_depths(student, 12, chosen)
