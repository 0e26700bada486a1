"""Times meta-updates on this machine, or an exported model.

    tf-mamlpp benchmark --case=omniglot_5way_1shot
    tf-mamlpp benchmark --model=models/glyphs/1

docs/benchmark.md says what the columns mean.
"""

import dataclasses
import json
from typing import Any

from tf_mamlpp.benchmark import comparison, races, report
from tf_mamlpp.benchmark.cases import GROWTH_BASE, choose_cases
from tf_mamlpp.benchmark.contestants import case_runner
from tf_mamlpp.benchmark.process import Worker
from tf_mamlpp.commands.flags import Flags
from tf_mamlpp.errors import UserError

flags = Flags()

_CASE = flags.DEFINE_list("case", ["omniglot_5way_1shot"], "Cases, or 'all'.")
_LAST_STEP_LOSS = flags.DEFINE_bool("last_step_loss", False, "Only the query loss after the last inner step counts.")
_REMATERIALISE = flags.DEFINE_bool(
    "rematerialise", False, "Inner steps run again in the backward pass: less memory, more time."
)
_PEERS = flags.DEFINE_list("peers", [], "Compare with these instead, taking turns: pytorch, learn2learn, higher.")
_GROWTH = flags.DEFINE_bool("growth", False, "Measure instead how time and memory grow with the size of a small case.")
_MODEL = flags.DEFINE_string("model", None, "Time an exported model instead: adapting and predicting.")
_UPDATES = flags.DEFINE_integer("updates", 30, "Updates to time.", lower_bound=3)
_JSON = flags.DEFINE_bool("json", False, "Print the results as one JSON object on the last line.")
_COMPARE = flags.DEFINE_string("compare", None, "Output of an earlier --json run of the same cases: print ratios.")

# The flags that each kind of benchmark does not use.
_UNUSED_FLAGS = {
    "model": (_GROWTH, _PEERS, _CASE, _LAST_STEP_LOSS, _REMATERIALISE, _UPDATES, _COMPARE),
    "growth": (_PEERS, _CASE, _LAST_STEP_LOSS, _REMATERIALISE, _COMPARE),
    "peers": (_COMPARE,),
}


def main(overrides: list[str]) -> None:
    if overrides:
        raise UserError(f"'{overrides[0]}': the benchmark takes no config")
    _check_flags()
    results: dict[str, Any]
    if _MODEL.value:
        results = _time_model(_MODEL.value)
    elif _GROWTH.value:
        lines, grown = report.growth_table(list(races.time_growth(_UPDATES.value)))
        print(f"{GROWTH_BASE}, one field growing:", *lines, sep="\n")
        results = {"machine": comparison.machine(), "growth": grown}
    else:
        results = _race_peers() if _PEERS.value else _time_cases()
    if _JSON.value:
        print(json.dumps(results))


def _check_flags() -> None:
    """Refuses flags that the chosen kind of benchmark does not use."""
    for kind, unused in _UNUSED_FLAGS.items():
        given = [f"--{flag.name}" for flag in unused if flag.present]
        if flags[kind].value and given:
            raise UserError(f"--{kind} takes no {' and no '.join(given)}: leave out the one or the other")


def _time_cases() -> dict[str, Any]:
    cases = choose_cases(_CASE.value, _LAST_STEP_LOSS.value, _REMATERIALISE.value)
    earlier = comparison.load_results(_COMPARE.value) if _COMPARE.value else None
    if earlier:
        comparison.check_comparable(earlier, cases)
    results: dict[str, Any] = {"machine": comparison.machine(), "cases": {}}
    print(report.case_header())
    for name, case in cases.items():
        with Worker(case_runner) as run:
            measured = run(case, _UPDATES.value)
        results["cases"][name] = {"case": dataclasses.asdict(case), **measured}
        print(report.case_row(name, measured), flush=True)
    print(report.CASE_NOTES)
    if earlier:
        print("", *comparison.comparison_table(earlier, results), sep="\n")
    return results


def _race_peers() -> dict[str, Any]:
    races.check_peers(_PEERS.value)
    cases, left_out = races.cases_for_peers(choose_cases(_CASE.value, _LAST_STEP_LOSS.value, _REMATERIALISE.value))
    if left_out:
        print(f"left out, since peers have {races.PEER_BACKBONE} alone: {', '.join(left_out)}", flush=True)
    results: dict[str, Any] = {"machine": comparison.machine(), "peers": {}}
    for name, case in cases.items():
        raced = races.race(case, _PEERS.value, _UPDATES.value)
        print(*report.race_table(name, raced), sep="\n", flush=True)
        results["peers"][name] = {contestant: result._asdict() for contestant, result in raced.items()}
    return results


def _time_model(folder: str) -> dict[str, Any]:
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.benchmark.serving import run_serving

    served = run_serving(folder)
    print(*report.serving_lines(served), sep="\n")
    return served
