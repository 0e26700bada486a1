"""Speed on this machine, of meta-updates: python bin/benchmark.py --case=omniglot_5way_1shot

or of an exported model: python bin/benchmark.py --model=DIR.  docs/benchmark.md says what the columns mean.
"""

import dataclasses
import json
from typing import Any

from absl import flags

from tf_mamlpp import cli
from tf_mamlpp.benchmark import races, report
from tf_mamlpp.benchmark.cases import GROWTH_BASE, choose
from tf_mamlpp.benchmark.contestants import case_runner
from tf_mamlpp.benchmark.process import Worker
from tf_mamlpp.errors import UserError

_CASE = flags.DEFINE_list("case", ["omniglot_5way_1shot"], "Cases, or 'all'.")
_LAST = flags.DEFINE_bool("last_step_loss", False, "Only the query loss after the last inner step counts.")
_AGAIN = flags.DEFINE_bool(
    "rematerialise", False, "Inner steps run again in the backward pass: less memory, more time."
)
_PEERS = flags.DEFINE_list("peers", [], "Compare with these instead, in turns: pytorch, learn2learn, higher.")
_GROWTH = flags.DEFINE_bool("growth", False, "How time and memory grow with the size of a small case, instead.")
_MODEL = flags.DEFINE_string("model", None, "Time an exported model instead: learning tasks, and answering.")
_UPDATES = flags.DEFINE_integer("updates", 30, "Updates to time.", lower_bound=3)
_JSON = flags.DEFINE_bool("json", False, "Print the results as one JSON object on the last line.")
_COMPARE = flags.DEFINE_string("compare", None, "Output of an earlier --json run of the same cases: print ratios.")


def main(overrides: list[str]) -> None:
    if overrides:
        raise UserError(f"'{overrides[0]}': the benchmark takes no config")
    _refuse_unused()
    results: dict[str, Any]
    if _MODEL.value:
        results = _model(_MODEL.value)
    elif _GROWTH.value:
        lines, grown = report.growth_table(list(races.grow(_UPDATES.value)))
        print(f"{GROWTH_BASE}, one field growing:", *lines, sep="\n")
        results = {"machine": report.machine(), "growth": grown}
    else:
        results = _peers() if _PEERS.value else _cases()
    if _JSON.value:
        print(json.dumps(results))


_UNUSED = {
    "model": (_GROWTH, _PEERS, _CASE, _LAST, _AGAIN, _UPDATES, _COMPARE),
    "growth": (_PEERS, _CASE, _LAST, _AGAIN, _COMPARE),
    "peers": (_COMPARE,),
}


def _refuse_unused() -> None:
    """Refuses options that the chosen kind of benchmark would pass over."""
    for kind, unused in _UNUSED.items():
        given = [f"--{flag.name}" for flag in unused if flag.present]
        if flags.FLAGS[kind].value and given:
            raise UserError(f"--{kind} takes no {' and no '.join(given)}: leave out the one or the other")


def _cases() -> dict[str, Any]:
    cases = choose(_CASE.value, _LAST.value, _AGAIN.value)
    earlier = report.load(_COMPARE.value) if _COMPARE.value else None
    if earlier:
        report.check_comparable(earlier, cases)
    results: dict[str, Any] = {"machine": report.machine(), "cases": {}}
    print(report.case_header())
    for name, case in cases.items():
        with Worker(case_runner) as run:
            numbers = run(case, _UPDATES.value)
        results["cases"][name] = {"case": dataclasses.asdict(case), **numbers}
        print(report.case_row(name, numbers), flush=True)
    print(report.CASE_NOTES)
    if earlier:
        print("", *report.comparison(earlier, results), sep="\n")
    return results


def _peers() -> dict[str, Any]:
    races.check_peers(_PEERS.value)
    cases, left_out = races.with_peers(choose(_CASE.value, _LAST.value, _AGAIN.value))
    if left_out:
        print(f"left out, since peers have {races.PEER_BACKBONE} alone: {', '.join(left_out)}", flush=True)
    results: dict[str, Any] = {"machine": report.machine(), "peers": {}}
    for name, case in cases.items():
        timed = races.race(case, _PEERS.value, _UPDATES.value)
        print(*report.race_table(name, timed), sep="\n", flush=True)
        results["peers"][name] = {contestant: t._asdict() for contestant, t in timed.items()}
    return results


def _model(folder: str) -> dict[str, Any]:
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.benchmark.serving import run_serving

    served = run_serving(folder)
    print(*report.serving_lines(served), sep="\n")
    return served


if __name__ == "__main__":
    cli.run(main)
