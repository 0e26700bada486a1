"""What a test may do with a run beyond what it was trained for: other inner steps, copies of support pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tf_mamlpp.config import Config
from tf_mamlpp.data.support_copies import SupportCopies, usual_changes
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.evaluation import evaluate
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.training.build import fixed_episodes
from tf_mamlpp.training.run_banks import Banks

BEST = "best"
"""In place of a number of inner steps: the one that is best on validation tasks."""

_TIMES = 3  # the most steps that are tried, as a multiple of those trained


def check_options(config: Config, *, own: bool, split: str | None, inner_steps: int | str | None, report: bool) -> None:
    """Refuses options of a test that do not go with the run.

    Args:
        config: of the run.
        own: whether the run is tested on its own source.
        split: that is tested; None for the usual one.
        inner_steps: a number, `best`, or None.
        report: whether answers are wanted class by class.

    Raises:
        UserError: naming the option.

    Example:
        >>> check_options(Config(), own=True, split="validation", inner_steps="best", report=False)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: inner_steps=best is chosen on the validation tasks, which then are no test: ...
    """
    if report and config.is_regression:
        raise UserError("the run is a regression: it has no classes to report on")
    if isinstance(inner_steps, str):
        if inner_steps != BEST:
            raise UserError(f"inner_steps is a whole number or {BEST}, not '{inner_steps}'")
        if config.learner.prototypes:
            raise UserError(f"inner_steps={BEST}: prototypical networks have no inner loop")
        if own and split == "validation":
            raise UserError(
                f"inner_steps={BEST} is chosen on the validation tasks, which then are no test: choose another split"
            )


def support_copies(config: Config, count: int) -> SupportCopies | None:
    """The copies of support pictures, changed as the run's config says, or else as is usual for such pictures.

    Args:
        config: of the run, whose section `augmentation` is taken if it changes anything.
        count: of the copies of each picture; 0 for none.

    Raises:
        UserError: a negative number, or a run without pictures.

    Example:
        >>> support_copies(Config(), 0) is None, support_copies(Config(), 4).augmentation.crop_padding
        (True, 2)
    """
    if count == 0:
        return None
    if config.is_regression:
        raise UserError("support_augmentations: the run is a regression, which has no pictures")
    if not config.data.kind.is_pictures:
        raise UserError(f"support_augmentations: the run was trained on {config.data.kind.name}, not on pictures")
    if count < 0:
        raise UserError(f"support_augmentations is {count}: it must not be negative")
    own, d = config.augmentation, config.data
    return SupportCopies(count, own if own.active else usual_changes(d.image_size, d.channels))


def best_inner_steps(
    config: Config,
    banks: Banks,
    learner: EpisodicModel,
    members: Sequence[Callable[[], None]],
    query_statistics: str | None = None,
    copies: SupportCopies | None = None,
) -> tuple[int, dict[str, Any]]:
    """The number of inner steps, of 0 to three times those trained, that is best on the run's validation tasks.

    Args:
        config, banks: of the run, with the tasks that will be tested.
        learner: of the run.
        members, query_statistics, copies: as the test will use them.

    Returns:
        The number, of equal ones the smallest, and what results say of the choice.

    Example:
        >>> from tf_mamlpp.config import Data, Evaluation, Model
        >>> from tf_mamlpp.training.build import make_learner
        >>> config = Config(
        ...     data=Data(name="sinusoid"), model=Model(name="mlp"), evaluation=Evaluation(validation_tasks=4)
        ... )
        >>> steps, chosen = best_inner_steps(config, None, make_learner(config), [lambda: None])
        >>> len(chosen["inner_steps_chosen"]["mean_squared_error_per_inner_step"])
        16
    """
    count = config.evaluation.validation_tasks
    curve = evaluate(
        learner,
        fixed_episodes(config, banks, "validation", count, support_copies=copies),
        inner_steps=_TIMES * learner.inner_steps,
        query_statistics=query_statistics,
        members=members,
    ).per_inner_step
    best = min(curve) if config.is_regression else max(curve)
    where = {"dataset": config.data.name, "split": "validation", "tasks": count}
    return curve.index(best), {
        "inner_steps_chosen": {**where, f"{learner.metric_name}_per_inner_step": curve},
    }
