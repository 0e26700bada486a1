"""Teaches an exported or pretrained model new classes, and classifies pictures.

    tf-mamlpp adapt --model=omniglot --support=my/characters --query=my/pictures --output=predictions
    tf-mamlpp adapt --model=models/glyphs/1 --support=DIR --trials=600

What was learned can be kept in a file, and learned on with --load_state.
"""

from pathlib import Path
from typing import Any

from tf_mamlpp.commands.flags import Flags
from tf_mamlpp.deploy import catalogue
from tf_mamlpp.errors import UserError
from tf_mamlpp.text import percent

flags = Flags()

_MODEL = flags.DEFINE_string(
    "model", None, "Folder that tf-mamlpp export wrote, or a pretrained model's name.", required=True
)
_SUPPORT = flags.DEFINE_string(
    "support",
    None,
    "Folder with a folder of pictures, or of recordings, for each class to adapt to; of a model of arrays, .npz or "
    "folder of .npy with inputs and labels, or an array for each class.",
)
_QUERY = flags.DEFINE_string("query", None, "Folder of pictures or recordings, or .npy or .npz of arrays, to classify.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for predictions.csv and, but for arrays, contact_sheet.png.")
_EVALUATE = flags.DEFINE_bool(
    "evaluate", False, "The query folder has class folders, or its arrays have labels: measure the accuracy."
)
_REJECT = flags.DEFINE_bool(
    "reject",
    False,
    "Label pictures 'unknown' that are probably of no class: 5 % of known ones were, when the model was exported. With "
    "--evaluate, the query folder's class folder 'unknown' holds pictures of no class.",
)
_SAVE = flags.DEFINE_string("save_state", None, "File (.npz) to keep the adapted state in.")
_LOAD = flags.DEFINE_string(
    "load_state", None, "File of --save_state: what was learned before.  --support then adds classes, or pictures."
)
_REMOVE = flags.DEFINE_list("remove", None, "Classes of --load_state to forget.")
_TRIALS = flags.DEFINE_integer(
    "trials",
    None,
    "Instead of classifying: adapt to this many random choices of --way classes and --shot pictures from the class "
    "folders of --support, and report the accuracy on others of their pictures.",
    lower_bound=2,
)
_WAY = flags.DEFINE_integer("way", None, "Classes a trial; as many as in training by default.", lower_bound=2)
_SHOT = flags.DEFINE_integer("shot", 1, "Support pictures a class, in trials.", lower_bound=1)
_QUERY_SHOT = flags.DEFINE_integer("query_shot", 5, "Query pictures a class, in trials.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the trials' choices.", lower_bound=0)
_UNKNOWN = flags.DEFINE_integer(
    "unknown", None, "Pictures of other classes in each trial: how many of them are found to be unknown?", lower_bound=1
)


def _check_flags() -> None:
    catalogue.check_model(_MODEL.value)
    if not (_SUPPORT.value or _LOAD.value):
        raise UserError("give --support (class folders to learn) or --load_state (what was learned before)")
    if _REMOVE.value and not _LOAD.value:
        raise UserError("--remove needs --load_state, from which it takes classes")
    if _TRIALS.value and _LOAD.value:
        raise UserError("--trials goes without --load_state: it learns anew each time")
    if _TRIALS.value and not _SUPPORT.value:
        raise UserError("--trials needs --support, the class folders to choose from")
    if not _TRIALS.value and not (_QUERY.value or _SAVE.value):
        raise UserError("give --query (pictures to classify), or --save_state to only learn")
    if bool(_QUERY.value) != bool(_OUTPUT.value):
        raise UserError("--query (pictures to classify) and --output (folder for the answers) go together")
    if _EVALUATE.value and not _QUERY.value:
        raise UserError("--evaluate needs --query, whose class folders say what its pictures are")
    if _REJECT.value and not _QUERY.value:
        raise UserError("--reject needs --query, the pictures that may be of no class (in trials: --unknown)")
    if _TRIALS.value and (_QUERY.value or _SAVE.value):
        raise UserError("--trials goes without --query, --output and --save_state: it keeps and classifies nothing")
    if not _TRIALS.value:
        for flag in (_WAY, _SHOT, _QUERY_SHOT, _SEED, _UNKNOWN):
            if flag.present:
                raise UserError(f"--{flag.name} is a setting of --trials")
    for folder in (_OUTPUT.value, _SAVE.value and Path(_SAVE.value).parent):
        if folder:
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"'{folder}' cannot be written: {error.strerror}; choose another folder") from error


def main(overrides: list[str]) -> None:
    if overrides:
        raise UserError(f"'{overrides[0]}': an exported model has its own config")
    _check_flags()
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.deploy.deployed_model import DeployedModel
    from tf_mamlpp.deploy.pretrained import exported

    folder = Path(_MODEL.value)
    model = DeployedModel(folder if folder.is_dir() else exported(_MODEL.value))
    if _TRIALS.value:
        _run_trials(model, _TRIALS.value)
    else:
        _adapt_and_predict(model)


def _run_trials(model: Any, count: int) -> None:
    from tf_mamlpp.deploy.trials import run_trials

    way = _WAY.value or model.trained_way
    found = run_trials(
        model,
        Path(str(_SUPPORT.value)),
        way=way,
        shot=_SHOT.value,
        query_shot=_QUERY_SHOT.value,
        count=count,
        seed=_SEED.value,
        unknown=_UNKNOWN.value or 0,
    )
    kind, nearest = model.inputs.kind, model.inputs.kind.baselines[0]
    points = "raw pixels" if kind.is_pictures else "inputs"
    rows = [
        ("this model", percent(*found["accuracy"]), "95 % interval over trials"),
        (nearest.replace("_", " "), percent(*found[nearest]), f"1-NN on {points}"),
    ]
    if _UNKNOWN.value:
        value, half = found["auroc"]
        kept = f"of query {kind.examples}; threshold {model.threshold:.3f}"
        rows += [
            ("known kept", percent(*found["known_kept"]), kept),
            ("unknown found", percent(*found["unknown_found"]), f"of {_UNKNOWN.value} of other classes a trial"),
            ("AUROC", f"{value:.3f} ± {half:.3f}", "of telling the two apart"),
        ]
    print(f"{count} trials, {way} classes, {_SHOT.value} support {kind.examples} a class:")
    width = max(13, *(len(name) for name, _, _ in rows))
    print("\n".join(f"  {name:{width}}  {value}  ({about})" for name, value, about in rows))


def _adapt_and_predict(model: Any) -> None:
    from tf_mamlpp.deploy import folders, predictions
    from tf_mamlpp.deploy.adapted_task import AdaptedTask

    before = AdaptedTask.load(_LOAD.value) if _LOAD.value else None
    task = folders.learn(model, before, _SUPPORT.value, _REMOVE.value or ())
    if task is not before:
        count = f"{len(task.labels)} {model.inputs.kind.examples}"
        print(f"learned {', '.join(map(predictions.one_line, task.class_names))} from {count}")
    if _SAVE.value:
        task.save(_SAVE.value)
    if _QUERY.value:
        query = Path(str(_QUERY.value))
        found = folders.predict_folder(model, task, query, _EVALUATE.value, _REJECT.value)
        predictions.write_predictions(found, task, Path(str(_OUTPUT.value)))
        if _EVALUATE.value:
            print(predictions.confusion_matrix(found))
        if _EVALUATE.value and before is not None and before is not task:
            old = [name for name in before.class_names if name in set(found.truths or ())]
            if old:
                print(predictions.change(folders.predict_folder(model, before, query, True, _REJECT.value, old), found))
        print(predictions.summary(found))
