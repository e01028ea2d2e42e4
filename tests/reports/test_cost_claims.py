"""The claims about time and memory, which records of the cost benchmark on a GPU judge."""

from __future__ import annotations

import pytest

from reports import claims
from reports.claims import costs
from reports.claims.judging import Verdict
from reports.published import FOLDER
from reports.records import read

SUPPORTED, CONTRADICTED, NOT_RUN = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.NOT_RUN
PENALTIES = ("euclidean", "cosine", "nonlinear", "linear")
ALL_FORMS = ("closed", "literal", "maps")


def gpu(method, euclidean, others, gpu="NVIDIA H100", forms=ALL_FORMS):
    """A record of the cost benchmark: what the penalties take beyond a step of 2 GiB, all forms alike."""
    extra = {
        f"{form}-{name}": euclidean if name == "euclidean" else others
        for form in forms
        for name in PENALTIES
    }
    metrics = {f"step_ratio/{name}": {"median": 1 + ratio} for name, ratio in extra.items()}
    variants = {name: {"peak_memory_bytes": (2 + more) * 2**30} for name, more in extra.items()}
    return {
        "cell": {"method": method, "task": "cuda-bf16"},
        "hardware": {"gpu": gpu, "cpu": "a CPU"},
        "metrics": metrics,
        "cost": {"by_variant": variants | {"baseline": {"peak_memory_bytes": 2**31}}},
    }


@pytest.mark.parametrize(
    ("euclidean", "others", "time", "memory", "cheapest"),
    [
        (0.1, 0.3, SUPPORTED, SUPPORTED, SUPPORTED),
        (0.5, 0.3, CONTRADICTED, SUPPORTED, CONTRADICTED),
        (0.2, 0.7, CONTRADICTED, CONTRADICTED, SUPPORTED),
    ],
)
def test_costs_on_a_gpu(euclidean, others, time, memory, cheapest):
    by_id = {claim.id: claim.how for claim in claims.load_claims()}
    records = [gpu(method, euclidean, others) for method in ("lora-r2", "dtl-r2")]
    assert costs.verdict_of(records, by_id["modest-time"]) == (time, 2)
    assert costs.verdict_of(records, by_id["little-memory"]) == (memory, 2)
    assert costs.verdict_of(records, by_id["euclidean-cheapest"]) == (cheapest, 2)


def test_costs_need_each_network_of_the_paper_in_the_form_that_is_judged():
    how = {"quantity": "cheapest", "form": "maps"}
    lora, dtl = gpu("lora-r2", 0.1, 0.3), gpu("dtl-r2", 0.1, 0.3)
    assert costs.verdict_of([lora, dtl], how) == (SUPPORTED, 2)
    assert costs.verdict_of([lora], how) == (NOT_RUN, 1)
    left_out = gpu("dtl-r2", 0.1, 0.3, forms=("closed",))
    assert costs.verdict_of([lora, left_out], how) == (NOT_RUN, 1)


def test_costs_on_a_cpu_are_shown_and_judge_nothing(tmp_path):
    how = {"quantity": "time", "form": "closed", "most": 34}
    assert costs.judge(read(tmp_path, "paper"), how).verdict is NOT_RUN
    assert costs.judge(read(tmp_path, "paper"), how).numbers == ()
    found = costs.judge(read(FOLDER.parents[1] / "results", "paper"), how)
    if found.verdict is NOT_RUN:  # until someone commits a record of a GPU
        assert found.numbers[-1] == "no record of a GPU, which the paper's numbers are of"
        assert found.command[-1] == "--scale paper"
