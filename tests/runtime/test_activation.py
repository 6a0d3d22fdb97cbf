"""The link to the model in force, and what is known of the model that it leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.activation import (
    FIRST_SCENES,
    activate,
    activation_of,
    checked,
    model_in_force,
    read_activation,
    roll_back,
)
from sarwater.errors import ConfigurationError, UsageError
from sarwater.models import Model, find_model
from tests.support.models import box_model


@pytest.fixture
def models(tmp_path: Path) -> list[Model]:
    return [box_model(tmp_path / f"{name}.onnx", dark=dark) for name, dark in (("one", 50), ("two", 60))]


def put(link: Path, model: Model) -> None:
    activate(link, model, model.manifest.verify(model.path), {"iou": 0.9}, None)


def test_the_link_leads_to_the_model_that_was_activated_last(tmp_path: Path, models: list[Model]) -> None:
    link = tmp_path / "active"
    assert model_in_force(link) is None
    for model in models:
        put(link, model)
        assert model_in_force(link) == model.path
        assert find_model(link).path == model.path
    known = read_activation(link)
    assert known is not None
    assert known.previous is not None
    assert (known.previous.model, known.unchecked) == (str(models[0].path), FIRST_SCENES)


def test_a_rollback_returns_to_what_was_known_of_the_model_before(tmp_path: Path, models: list[Model]) -> None:
    link = tmp_path / "active"
    put(link, models[0])
    for _ in range(FIRST_SCENES + 1):
        checked(link, models[0].path)
    put(link, models[1])
    found = roll_back(link, models[1].path, "it is wrong")
    assert found is not None
    assert (found.model, found.unchecked, found.proof) == (str(models[0].path), 0, {"iou": 0.9})
    assert found.rolled_back is not None
    assert found.rolled_back.startswith(str(models[1].path))
    assert found.rolled_back.endswith(": it is wrong")
    assert read_activation(link) == found
    assert model_in_force(link) == models[0].path
    assert roll_back(link, models[0].path, "there is none before it") is None


def test_a_model_that_is_proven_again_keeps_the_way_back(tmp_path: Path, models: list[Model]) -> None:
    link = tmp_path / "active"
    for model in (*models, models[1]):
        put(link, model)
    found = roll_back(link, models[1].path, "by hand")
    assert found is not None
    assert found.model == str(models[0].path)


@pytest.mark.parametrize("then", ["checked", "roll_back"])
def test_what_is_said_of_a_model_that_is_not_in_force_changes_nothing(
    tmp_path: Path, models: list[Model], then: str
) -> None:
    link = tmp_path / "active"
    for model in models:
        put(link, model)
    before = read_activation(link)
    assert (checked(link, models[0].path) if then == "checked" else roll_back(link, models[0].path, "")) is None
    assert read_activation(link) == before


def test_a_model_put_in_force_by_hand_has_no_record_and_is_the_way_back_all_the_same(
    tmp_path: Path, models: list[Model]
) -> None:
    link = tmp_path / "active"
    link.symlink_to(models[0].path)
    assert read_activation(link) is None
    put(link, models[1])
    found = roll_back(link, models[1].path, "by hand")
    assert found is not None
    assert (found.model, found.sha256) == (str(models[0].path), "")


@pytest.mark.parametrize("dies_at", range(1, 9))
def test_a_change_that_dies_at_any_step_leaves_one_model_in_force_and_no_wrong_word_of_it(
    tmp_path: Path, models: list[Model], monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """The steps are the system's: a rename, an fsync, a link."""
    link = tmp_path / "active"
    put(link, models[0])
    steps = 0

    class Died(BaseException):
        pass

    def step(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            nonlocal steps
            steps += 1
            if steps == dies_at:
                raise Died
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    for name in ("replace", "fsync", "symlink"):
        step(name)
    try:
        put(link, models[1])
        roll_back(link, models[1].path, "wrong")
    except Died:
        pass
    monkeypatch.undo()
    in_force = model_in_force(link)
    assert in_force in (models[0].path, models[1].path)
    known = read_activation(link)
    assert known is None or known.model == str(in_force)
    if in_force == models[1].path:  # then it is known as new, with its way back
        assert known is not None
        assert known.previous is not None
        assert known.unchecked == FIRST_SCENES


def test_a_file_in_the_place_of_the_link_is_refused(tmp_path: Path, models: list[Model]) -> None:
    with pytest.raises(UsageError, match="expected a symbolic link"):
        put(models[0].path, models[1])


@pytest.mark.parametrize("text", ["", "[]", '{"model": "x"}', '{"modl": "x", "previous": null}', "\udcff"])
def test_a_damaged_record_is_refused_with_what_to_do(tmp_path: Path, models: list[Model], text: str) -> None:
    link = tmp_path / "active"
    put(link, models[0])
    (tmp_path / "active.proof.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigurationError, match="sarwater activate"):
        activation_of(link, models[0].path)
