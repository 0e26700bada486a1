"""Speed on this machine, of meta-updates: python bin/benchmark.py --case=omniglot_5way_1shot

or of an exported model: python bin/benchmark.py --model=DIR
"""

import json

from absl import flags

from tf_mamlpp import cli
from tf_mamlpp.errors import UserError

_CASE = flags.DEFINE_list("case", ["omniglot_5way_1shot"], "Cases, or 'all'.")
_MODEL = flags.DEFINE_string(
    "model", None, "Time an exported model instead: learning tasks, and answering about pictures."
)
_UPDATES = flags.DEFINE_integer("updates", 30, "Updates to time.", lower_bound=3)
_JSON = flags.DEFINE_bool("json", False, "Print the results as one JSON object on the last line.")


def main(overrides: list[str]) -> None:
    if overrides:
        raise UserError(f"'{overrides[0]}': the benchmark takes no config")
    from tf_mamlpp.runtime import configure

    configure()
    if _MODEL.value:
        from tf_mamlpp.serving_benchmark import run_serving

        served = run_serving(_MODEL.value)
        for shot in (1, 5):
            print(
                f"adapt, {shot} shot  {served[f'adapt_{shot}shot_milliseconds']:8.1f} ms "
                f"(95 % below {served[f'adapt_{shot}shot_milliseconds_95']:.1f})"
                f"{served[f'adapt_{shot}shot_tasks_per_second']:10.1f} tasks/s"
            )
        print(
            f"predict, 1 picture{served['predict_milliseconds']:6.1f} ms "
            f"(95 % below {served['predict_milliseconds_95']:.1f})"
            f"{served['predict_pictures_per_second']:10.0f} pictures/s, 64 a call"
        )
        if _JSON.value:
            print(json.dumps(served))
        return
    from tf_mamlpp.benchmark import CASES, run_case

    names = list(CASES) if _CASE.value == ["all"] else _CASE.value
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise UserError(f"unknown case '{unknown[0]}'; cases are {', '.join(CASES)}, or all")
    print(
        f"{'case':<26}{'ms':>8}{'fastest':>9}{'tasks/s':>9}{'first s':>9}{'GFLOP':>8}{'of peak':>9}{'peak MB':>9}"
        f"{'input':>8}"
    )
    results = {}
    for name in names:
        r = results[name] = run_case(CASES[name], _UPDATES.value)
        print(
            f"{name:<26}{r['milliseconds']:>8.0f}{r['fastest_milliseconds']:>9.0f}{r['tasks_per_second']:>9.1f}"
            f"{r['first_step_seconds']:>9.1f}{r['gflop']:>8.1f}{r['share_of_matmul_peak']:>9.1%}"
            f"{r['peak_memory_mb']:>9.0f}{r['input_share']:>8.1%}",
            flush=True,
        )
    print("Memory is the process's peak so far: give one case a process of its own to compare it.")
    print("Input is the time to draw a meta-batch, as a share of the update's.")
    if _JSON.value:
        print(json.dumps(results))


if __name__ == "__main__":
    cli.run(main)
