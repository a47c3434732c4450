"""Metrics beside those of other packages: `python -m studies.tasks.metrics WHEELS`.

WHEELS is a folder with what `pip download --no-deps` gave of anls, anls-star, munkres,
lmms-eval, ms-vlmeval and torchmetrics (see `PACKAGES`). Their functions score the
replies of tests/evals/metrics/cases.py as ours do; where values differ, it is told in
which kinds of replies. Writes tests/evals/data/metric_values.json, which the tests
compare with, and studies/tasks/metrics.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocoevalcap.cider.cider_scorer import CiderScorer
from sklearn.metrics import f1_score

from allocator.core.plugins import load
from allocator.core.ports import Sample
from evals.metrics.f1 import tokens
from evals.ptb import tokenize_caption
from studies.tasks._borrowed import Wheel, wheel
from tests.evals.metrics.cases import digest
from tests.evals.metrics.values import (
    DIFFERENCES,
    MADE,
    VALUES,
    alike,
    ours,
    packed,
    shown_to,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.evals.metrics.cases import Case
    from tests.evals.metrics.values import Value

    Theirs = Callable[[Case], Value]

TABLE = Path(__file__).with_name("metrics.md")
PACKAGES = ("anls", "anls_star", "lmms_eval", "ms_vlmeval", "torchmetrics")
# kinds of replies that mean no choice, and those that mean several or none
NOTHING = (
    "an article",
    "a letter of a word",
    "no choice",
    "no such letter",
    "nothing",
    "a denial",
)
UNCLEAR = (*NOTHING, "two letters", "two texts", "all letters")
UTILS = "lmms_eval/tasks/{}/utils.py"
HEAD = """\
# Metrics beside those of other packages

Made by `python -m studies.tasks.metrics` from the replies of
tests/evals/metrics/cases.py, 100 to 400 of each kind. The same: percentages within
0.01, or the same letters. Below each table stands what differs, why, and in how many
replies of which kind; the tests hold us to that. The package anls does not count a
similarity of 0.5 itself, as the paper has it: it is asked with a threshold just above.
"""
CAPTIONS = """
## cider

pycocoevalcap's CIDEr-D of {count:,} captions, on the same tokens: at most {apart:.0e}
apart.
"""


def best(score: Callable[[str, str], Any]) -> Theirs:
    """Percent of a score of 0 to 1 of reply and answer, the best of the answers."""
    return lambda case: 100.0 * max(float(score(case.reply, a)) for a in case.answers)


def of_lmms(source: Wheel) -> dict[str, dict[str, Theirs]]:
    """What tasks of lmms-eval score by."""
    metrics = source.names("lmms_eval/api/metrics.py", mean=None)
    chart = source.names(UTILS.format("chartqa"))
    ocr = source.names(UTILS.format("ocrbench"))
    processor = source.names("lmms_eval/tasks/_task_utils/vqa_eval_metric.py")
    people = source.names(
        UTILS.format("vqav2"), EvalAIAnswerProcessor=processor["EvalAIAnswerProcessor"]
    )
    mmmu = source.names("lmms_eval/tasks/_task_utils/mmmu_mcq_utils.py")
    extract = source.names("lmms_eval/tasks/_task_utils/mcq_extract.py")

    def exact(reply: str, answer: str) -> Any:
        return metrics["exact_match_hf_evaluate"](
            [reply], [answer], ignore_case=True, ignore_punctuation=True
        )["exact_match"]

    def anls(case: Case) -> float:
        return 100.0 * float(metrics["anls"](case.answers, [case.reply])["anls"])

    def contains(case: Case) -> float:
        doc = {"answer": list(case.answers), "dataset": "", "question_type": ""}
        found = ocr["ocrbench_process_results"](doc, [case.reply])
        return 100.0 * found["ocrbench_accuracy"]["score"]

    def vqa(case: Case) -> float:
        given = [{"answer": a, "answer_id": n} for n, a in enumerate(case.answers)]
        doc = {"answers": given, "question_id": 1}
        return 100.0 * people["vqav2_process_results"](doc, [case.reply])["exact_match"]

    def guessing(case: Case) -> str:
        # a guess is no letter
        mmmu["random"] = SimpleNamespace(choice=lambda _: "")
        letters, texts = lettered(case)
        return str(mmmu["parse_mmmu_multi_choice_response"](case.reply, letters, texts))

    return {
        "exact": {"exact_match of gqa": best(exact)},
        "contains": {"ocrbench": contains},
        "anls": {"anls": anls},
        "relaxed": {"chartqa": best(chart["relaxed_correctness"])},
        "vqa": {"vqav2": vqa},
        "choice": {
            "mmmu": guessing,
            "extract_mcq_answer": lambda case: str(
                extract["extract_mcq_answer"](case.reply, lettered(case)[0])
            ),
        },
    }


def of_vlmeval(source: Wheel) -> dict[str, dict[str, Theirs]]:
    """What VLMEvalKit scores by."""
    common = {
        "istype": lambda text, _: isinstance(text, str) and text.startswith("["),
        "listinstr": lambda names, name: any(each in name for each in names),
    }
    scores = source.names("vlmeval/dataset/utils/vqa_eval.py", **common)
    matching = source.names("vlmeval/utils/matching_util.py", get_logger=None)

    def line(method: str, data: str) -> Theirs:
        def score(case: Case) -> float:
            row = {"answer": str(list(case.answers)), "prediction": case.reply}
            return (
                100.0
                * scores["hit_calculate"]([scores["process_line"](row, method)], data)[
                    0
                ]
            )

        return score

    def choice(case: Case) -> str:
        found = matching["can_infer"](case.reply, deepcopy(lettered(case)[1]))
        return found if found and found != "Z" else ""

    return {
        "exact": {"accuracy": line("accuracy", "OCRVQA")},
        "anls": {"anls": line("anls", "DocVQA")},
        "relaxed": {"relaxed_accuracy": line("relaxed_accuracy", "ChartQA")},
        "choice": {"can_infer": choice},
    }


def of_anls(source: Wheel, star: Wheel) -> dict[str, dict[str, Theirs]]:
    """The two packages for ANLS."""
    sys.path += [str(path) for path in star.path.parent.glob("munkres-*.whl")]
    sys.path += [str(source.path), str(star.path)]
    from anls import anls_score
    from anls_star import anls_score as star_score

    return {
        "anls": {
            f"{source.title}, 0.5 counted": lambda case: (
                100.0 * anls_score(case.reply, list(case.answers), 0.5 + 1e-9)
            ),
            star.title: lambda case: 100.0 * star_score(case.answers, case.reply),
        }
    }


def of_squad(source: Wheel) -> dict[str, dict[str, Theirs]]:
    """SQuAD's evaluation, as torchmetrics has it."""
    squad = source.names("torchmetrics/functional/text/squad.py", rank_zero_warn=None)
    return {
        "exact": {"SQuAD exact match": best(squad["_compute_exact_match_score"])},
        "f1": {"SQuAD F1": best(squad["_compute_f1_score"])},
    }


def lettered(case: Case) -> tuple[list[str], dict[str, str]]:
    """The letters of choices, and their texts by letter."""
    texts = dict(zip("ABCDEFGH", case.choices, strict=False))
    return list(texts), texts


def by_sklearn(shown: Sequence[Case]) -> list[Value]:
    """F1 of our tokens as scikit-learn has it: each token, counted, is a label."""
    found: list[Value] = []
    for case in shown:
        mine = numbered(tokens(case.reply))
        known = []
        for answer in case.answers:
            wanted = numbered(tokens(answer))
            every = sorted(mine | wanted)
            truth, said = ([each in own for each in every] for own in (wanted, mine))
            known.append(f1_score(truth, said, zero_division=0) if every else 0.0)
        found.append(100.0 * max(known))
    return found


def numbered(words: Sequence[str]) -> set[tuple[str, int]]:
    """Words, those that come again told apart."""
    seen: Counter[str] = Counter()
    found = set()
    for word in words:
        found.add((word, seen[word]))
        seen[word] += 1
    return found


def compare(folder: Path) -> dict[str, dict[str, list[Value]]]:
    """What all packages make of all cases, by metric and function."""
    anls, star, lmms, vlmeval, torchmetrics = (wheel(folder, p) for p in PACKAGES)
    found: dict[str, dict[str, list[Value]]] = {}
    for title, known in (
        (lmms.title, of_lmms(lmms)),
        (vlmeval.title, of_vlmeval(vlmeval)),
        ("", of_anls(anls, star)),
        (torchmetrics.title, of_squad(torchmetrics)),
    ):
        for metric, functions in known.items():
            for name, function in functions.items():
                label = f"{title}: {name}" if title else name
                values = [function(case) for case in shown_to(metric)]
                found.setdefault(metric, {})[label] = values
    label = f"scikit-learn {version('scikit-learn')}: f1_score of our tokens"
    found["f1"][label] = by_sklearn(shown_to("f1"))
    return found


def captions_apart() -> tuple[int, float]:
    """How many captions pycocoevalcap scores too, and how far it is from ours."""
    shown = shown_to("cider")
    samples = [
        Sample(str(n), Path(f"{n}.png"), "caption", "", case.answers)
        for n, case in enumerate(shown)
    ]
    mine = load("evals.metrics", "cider").score([c.reply for c in shown], samples)
    scorer = CiderScorer(n=4, sigma=6.0)
    for case in shown:
        texts = [
            " ".join(tokenize_caption(text)) for text in (case.reply, *case.answers)
        ]
        scorer += (texts[0], texts[1:])
    _, theirs = scorer.compute_score()
    return len(shown), float(np.abs(np.array(mine.values) - theirs).max())


def table(found: Mapping[str, Mapping[str, Sequence[Value]]], captions: str) -> str:
    """The page: a line for each function, and below it where it differs and why."""
    lines = [HEAD]
    for metric in sorted(found):
        shown = shown_to(metric)
        mine = ours(metric, shown)
        lines += [f"\n## {metric}\n", "| beside | cases | the same |", "|---|---|---|"]
        notes = []
        for label, values in found[metric].items():
            other = Counter(
                case.kind
                for case, one, another in zip(shown, mine, values, strict=True)
                if not alike(one, another)
            )
            same = len(shown) - other.total()
            lines.append(f"| {label} | {len(shown):,} | {same:,} |")
            notes += [f"\n{label}:\n"] if other else []
            for reason, kinds in DIFFERENCES.get((metric, label), {}).items():
                counts = ", ".join(f"{kind} {other.pop(kind)}" for kind in kinds)
                notes.append(f"- {reason}: {counts}")
            notes += [f"- UNEXPLAINED: {dict(other)}"] if other else []
        lines += notes
        if metric == "choice":
            lines.append(meant({"ours": mine, **found[metric]}))
    return "\n".join([*lines, captions])


def meant(values: Mapping[str, Sequence[Value]]) -> str:
    """How many replies that mean one choice are taken for that by each function."""
    shown = shown_to("choice")
    clear = [n for n, case in enumerate(shown) if case.kind not in UNCLEAR]
    lines = [
        "\nThe forms of replies are made up; how often models use which is another "
        f"matter. Of {len(clear):,} that mean one choice are taken for it:\n"
    ]
    for label, own in values.items():
        right = sum(own[n] == shown[n].answers[0] for n in clear)
        lines.append(f"- {label}: {right:,}")
    rest = [n for n in range(len(shown)) if shown[n].kind in NOTHING]
    lines.append(f"\nOf {len(rest):,} that mean none are taken for one:\n")
    for label, own in values.items():
        lines.append(f"- {label}: {sum(bool(own[n]) for n in rest):,}")
    return "\n".join(lines)


def main() -> None:
    """Compare, and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", type=Path)
    found = compare(parser.parse_args().wheels)
    record = {
        "made by": "python -m studies.tasks.metrics",
        "cases": {name: digest(made()) for name, made in MADE.items()},
        "values": {
            metric: {label: packed(values) for label, values in known.items()}
            for metric, known in found.items()
        },
    }
    VALUES.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    count, apart = captions_apart()
    captions = CAPTIONS.format(count=count, apart=apart)
    TABLE.write_text(table(found, captions), encoding="utf-8")


if __name__ == "__main__":
    main()
