"""Try many cases and print the disagreements, most frequent first.

python -m tests.ops.differential.sweep [OPERATOR …] [--rounds N] [--seed S] [--show N]

Each operator runs in a process of its own, since peers crash on some inputs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from tests.ops.differential.hostile import mutated
from tests.ops.differential.judge import judge, judge_hostile
from tests.ops.differential.space import cases, recipes


def sweep(domain: str, name: str, options: argparse.Namespace, note: Path) -> None:
    """Judge cases of one operator and print what was found; ``note`` holds the case at hand."""
    warnings.simplefilter("ignore")
    groups: dict[str, list[str]] = defaultdict(list)
    answers: Counter[str] = Counter()
    start = time.perf_counter()
    rng = np.random.default_rng(options.seed)
    for case in cases(domain, name, rounds=options.rounds, seed=options.seed):
        if options.hostile:
            case = mutated(case, rng)
        note.write_text(str(case), encoding="utf-8")
        findings = judge(case, answers)
        if options.hostile:
            findings = judge_hostile(case, answers, ("onnxruntime", "onnx.reference"))
        for finding in findings:
            kind = re.sub(r"[-\d.+e]+", "#", str(finding))[: options.width]
            groups[f"{case.opset} {kind}"].append(f"{case}\n        {finding}")
    seconds = time.perf_counter() - start
    told = ", ".join(f"{count} {who}" for who, count in sorted(answers.items()))
    print(f"{name}: {told}; {len(groups)} findings, {seconds:.1f} s")
    for members in sorted(groups.values(), key=len, reverse=True)[: options.show]:
        print(f"    {len(members)} × {members[0]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operators", nargs="*")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=8)
    parser.add_argument("--hostile", action="store_true", help="change one part of each case")
    parser.add_argument("--width", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder, "case")
        for domain, name in recipes():
            if options.operators and name not in options.operators:
                continue
            process = multiprocessing.Process(target=sweep, args=(domain, name, options, note))
            process.start()
            process.join(600)
            if process.is_alive():
                print(f"{name}: hangs on {note.read_text()}")
                process.kill()
            elif process.exitcode:
                print(f"{name}: exit code {process.exitcode} on {note.read_text()}")


if __name__ == "__main__":
    main()
