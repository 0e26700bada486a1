"""The test of a run's best epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_mamlpp.config import Config
from tf_mamlpp.data.support_copies import SupportCopies
from tf_mamlpp.errors import UserError, writing
from tf_mamlpp.meta.evaluation import Evaluation, evaluate
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.runtime import explain_memory_errors
from tf_mamlpp.training.answers import Answers, answers_of
from tf_mamlpp.training.build import fixed_episodes
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.confidence import run_confidence
from tf_mamlpp.training.other_data import ALL, described, other_source, pixel_baselines
from tf_mamlpp.training.run_banks import Banks, load_banks
from tf_mamlpp.training.run_classes import read_classes
from tf_mamlpp.training.run_inputs import kept_inputs
from tf_mamlpp.training.test_time import BEST, best_inner_steps, check_options, support_copies
from tf_mamlpp.training.workdir import open_run


def run_results(
    config: Config, banks: Banks, learner: EpisodicModel, checkpoints: Checkpoints, tasks: Path
) -> dict[str, Any]:
    """Tests the ensemble of the best epochs, the best one alone, and what pixels alone give.

    Args:
        config, banks, learner, checkpoints: of the run.
        tasks: the CSV file that gets each task's metric; the reliability plot is written beside it.

    Returns:
        The content of `results.json`; docs/results.md explains its keys.

    Raises:
        UserError: no epoch is finished.

    Example:
        >>> from tf_mamlpp.config import Data, Evaluation, Model
        >>> from tf_mamlpp.training.build import make_learner
        >>> config = Config(
        ...     data=Data(name="sinusoid"), model=Model(name="mlp"), evaluation=Evaluation(test_tasks=4)
        ... )
        >>> learner = make_learner(config)
        >>> checkpoints = Checkpoints(tmp_path / "checkpoints", learner)
        >>> checkpoints.save_best(update=0, epoch=0, score=0.0)
        >>> run_results(config, None, learner, checkpoints, tmp_path / "test_tasks.csv")["tasks"]
        4
    """
    members = _best_members(config, checkpoints)
    ensemble, of_ensemble = _test_members(config, banks, learner, checkpoints, members)
    single, of_single = ensemble, of_ensemble
    if len(members) > 1:
        single, of_single = _test_members(config, banks, learner, checkpoints, members[:1])
    each = zip(of_ensemble.per_task[:, -1], of_single.per_task[:, -1], strict=True)
    lines = [f"{i},{a:.6g},{b:.6g}" for i, (a, b) in enumerate(each)]
    with writing(tasks.parent):
        tasks.write_text("\n".join(["task,ensemble,single_model", *lines, ""]))
    metric = learner.metric_name
    if banks is not None:
        ensemble |= pixel_baselines(config.data, banks["test"], "test", ensemble["tasks"])
    ensemble["single_model"] = {name: single[name] for name in (metric, "confidence_95", f"{metric}_per_inner_step")}
    members[0]()  # which is what `tf-mamlpp export` exports
    confidence = run_confidence(config, banks, learner, tasks.parent)
    return ensemble if confidence is None else {**ensemble, "confidence": confidence}


def _best_members(config: Config, checkpoints: Checkpoints, count: int | None = None) -> list[Callable[[], None]]:
    """The run's best epochs, each to be loaded into the learner; None takes as many as the config's ensemble has."""
    members = checkpoints.best_members(count or config.evaluation.ensemble)
    if not members:
        raise UserError(f"'{checkpoints.folder}' lists no finished epoch in best.json: train in a new workdir")
    return members


def _test_members(
    config: Config,
    banks: Banks,
    learner: EpisodicModel,
    checkpoints: Checkpoints,
    members: Sequence[Callable[[], None]],
    *,
    split: str = "test",
    tasks: int | None = None,
    query_statistics: str | None = None,
    inner_steps: int | None = None,
    copies: SupportCopies | None = None,
) -> tuple[dict[str, Any], Evaluation]:
    """Evaluates an ensemble of the run's epochs on fixed tasks; None takes the config's setting.

    Returns:
        The metric with everything that must be told beside it (docs/results.md has the keys), and what every task
        gave.
    """
    count = tasks or config.evaluation.test_tasks
    found = evaluate(
        learner,
        fixed_episodes(config, banks, split, count, support_copies=copies),
        inner_steps=inner_steps,
        query_statistics=query_statistics,
        members=members,
    )
    metric = learner.metric_name
    return {
        "dataset": config.data.name,
        "split": split,
        "way": None if banks is None else config.data.way,
        "shot": config.data.shot,
        "query_shot": config.data.query_shot,
        "inner_steps": found.per_task.shape[1] - 1,
        "method": config.method,
        "label_permutations": config.learner.label_permutations,
        "query_statistics": query_statistics or learner.evaluation_statistics,
        "ensemble": len(members),
        "tasks": count,
        metric: found.value,
        "confidence_95": found.confidence_95 if math.isfinite(found.confidence_95) else None,
        f"{metric}_per_inner_step": found.per_inner_step,
        "seed": config.seed,
        "train_steps": int(checkpoints.update),
        "train_seconds": round(float(checkpoints.seconds), 1),
        **({"support_augmentations": copies.count} if copies else {}),
        **_damaged_pictures(config, banks),
    }, found


def _damaged_pictures(config: Config, banks: Banks) -> dict[str, int]:
    """How many pictures were left out, if that was allowed."""
    if banks is None or not config.data.skip_damaged:
        return {}
    return {"damaged_pictures": sum(len(bank.damaged) for bank in banks.values())}


@explain_memory_errors()
def evaluate_run(
    workdir: Path,
    query_statistics: Sequence[str | None],
    *,
    data_name: str | None = None,
    data_path: str | None = None,
    split: str | None = None,
    label_permutations: int | None = None,
    split_file: str | None = None,
    ensemble: int | None = None,
    task: Mapping[str, int] | None = None,
    tasks: int | None = None,
    inner_steps: int | str | None = None,
    support_augmentations: int = 0,
    report: Callable[[dict[str, Any], Answers], None] | None = None,
) -> list[dict[str, Any]]:
    """Evaluates the best epochs of the run in `workdir`, once for each of `query_statistics`.

    Args:
        workdir: of the run; only read.
        query_statistics: each `batch`, `running`, `support` or None for the run's setting.
        data_name: another source than the run's, see `other_source`.
        data_path: replaces the config's `data.path`; with `data_name`, of that source.
        split: `train`, `validation` or `test`; None for `test`, and for all classes of another source.
        label_permutations: replaces the config's `learner.label_permutations`, on which training does not depend.
        split_file: lists of the classes of each split, in place of the config's division, such as the run's own
            `classes.json`. It must give the classes of the run.
        ensemble: how many of the best epochs; None for the run's setting.
        task: other tasks than the run's: `way`, if its head takes any number of classes, `shot` and `query_shot`.
        tasks: how many; None for the run's own number.
        inner_steps: None for as many as trained; `best` for the number that is best on the run's validation tasks.
        support_augmentations: how many changed copies of each support picture are adapted to beside it.
        report: is given each result with the answers to its query pictures.

    Returns:
        For each of `query_statistics` the metric with everything that must be told beside it.

    Raises:
        UserError: there is no finished run, or a setting that does not go with it.

    Example:
        >>> from tf_mamlpp.config import Data, Evaluation, Model
        >>> from tf_mamlpp.training.build import make_learner
        >>> config = Config(
        ...     data=Data(name="sinusoid"), model=Model(name="mlp"), evaluation=Evaluation(test_tasks=4)
        ... )
        >>> learner = make_learner(config)
        >>> checkpoints = Checkpoints(tmp_path / "checkpoints", learner)
        >>> checkpoints.save_best(update=0, epoch=0, score=0.0)
        >>> from tf_mamlpp.training.workdir import claim_workdir
        >>> with claim_workdir(config, tmp_path):
        ...     pass
        >>> [found["query_statistics"] for found in evaluate_run(tmp_path, ["batch", "support"])]
        ['batch', 'support']
    """
    own = data_name is None
    config, learner, checkpoints = open_run(
        workdir, data_path if own else None, label_permutations, split_file if own else None, task
    )
    check_options(config, own=own, split=split, inner_steps=inner_steps, report=report is not None)
    copies = support_copies(config, support_augmentations)
    inputs, banks = kept_inputs(config, workdir), None
    if own or inner_steps == BEST:
        banks = load_banks(config, read_classes(workdir), workdir, inputs)
    tested, tested_banks = config, banks
    if data_name is not None:
        tested, tested_banks = other_source(config, data_name, data_path, split, split_file, inputs)
    split = split or ("test" if own else ALL)
    members = _best_members(config, checkpoints, ensemble)  # the same for all, also of a run that goes on
    results = []
    for choice in query_statistics:
        steps = inner_steps if isinstance(inner_steps, int) else None
        chosen: dict[str, Any] = {}
        if inner_steps == BEST:
            steps, chosen = best_inner_steps(config, banks, learner, members, choice, copies)
        result, found = _test_members(
            tested,
            tested_banks,
            learner,
            checkpoints,
            members,
            split=split,
            tasks=tasks,
            query_statistics=choice,
            inner_steps=steps,
            copies=copies,
        )
        result |= chosen
        if tested_banks is not None and not own:
            result |= described(config.data, tested.data)
            result |= pixel_baselines(tested.data, tested_banks[split], split, result["tasks"])
        if tested_banks is not None and report:
            report(result, answers_of(tested.data, tested_banks[split], split, found.answers))
        results.append(result)
    return results
