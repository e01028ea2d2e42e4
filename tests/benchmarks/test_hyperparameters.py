"""Values by task: that they are what was released, that methods take them, and whose they are."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
import torch

from benchmarks import backbones
from benchmarks.harness import swept
from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import BENCHMARKS, declared
from benchmarks.harness.spec import config_hash
from benchmarks.harness.sweep_choice import _toml
from benchmarks.training import released
from benchmarks.vtab1k.hyperparameters import FOLDER
from reports.audit import per_task
from resora.petl import make_method

VTAB1K = BENCHMARKS["vtab1k"]
PAPER = VTAB1K.scales["paper"]
TASKS = tuple(task.name for task in VTAB1K.tasks)
FILES = sorted(FOLDER.glob("*.toml"))
RECORDS = Path(__file__).resolve().parents[2] / "results" / "micro" / "vtab1k"


def config(task, method, *, backbone="vit_b16", scale="paper"):
    cell = Cell("vtab1k", backbone, task, method, 0)
    return VTAB1K.config(cell, VTAB1K.scales[scale])


def sources(task, method, *, backbone="vit_b16", scale="paper"):
    cell = Cell("vtab1k", backbone, task, method, 0)
    return VTAB1K.sources(cell, VTAB1K.scales[scale])


def column(method, setting, backbone="vit_b16"):
    section, name = setting.split(".")
    return [config(task, method, backbone=backbone)[section][name] for task in TASKS]


def test_files_are_those_of_methods_that_differ_by_task():
    assert {path.name for path in FILES} == {
        *("fact-tk.toml", "fact-tt.toml", "ssf.vit.toml", "vpt-deep.vit.toml"),
        *("dtl.vit.toml", "dtl-plus.vit.toml", "dtl.swin.toml", "dtl-plus.swin.toml"),
    }


def test_parameters_are_the_means_that_were_counted_from_the_repositories():
    ranks = column("fact-tk", "method.rank")
    assert fmean(2 * 768 * r + r**3 + 144 * r for r in ranks) == pytest.approx(68_985, abs=0.5)
    ranks = column("fact-tt", "method.rank")
    assert fmean(2 * 768 * r + 144 * r**2 for r in ranks) == pytest.approx(39_734, abs=0.5)
    kernels = column("dtl-plus", "method.kernel")
    assert fmean(36_864 + 768 * k**2 for k in kernels) == pytest.approx(50_728, abs=0.5)
    assert fmean(column("vpt-deep", "method.tokens")) == pytest.approx(73.6, abs=0.05)
    ranks = column("fact-tk", "method.rank", "swin_b")
    assert fmean(2 * 1920 * r + r**3 + 288 * r for r in ranks) == pytest.approx(134_952, abs=0.5)


def test_the_audit_of_parameters_has_the_same_values():
    assert column("fact-tk", "method.rank") == list(per_task.FACT_TK_RANK.values())
    assert column("dtl-plus", "method.kernel") == list(per_task.DTL_PLUS_KERNEL.values())
    assert column("vpt-deep", "method.tokens") == list(per_task.VPT_TOKENS.values())


@pytest.mark.parametrize(
    ("method", "backbone", "setting", "total"),
    [
        ("ssf", "vit_b16", "stage1.learning_rate", 0.158),
        ("ssf", "vit_b16", "stage1.weight_decay", 0.2507),
        ("ssf", "vit_b16", "backbone.drop_path", 1.4),
        ("dtl", "vit_b16", "stage1.learning_rate", 0.0748),
        ("dtl", "vit_b16", "backbone.drop_path", 2.2),
        ("dtl-plus", "vit_b16", "stage1.learning_rate", 0.0613),
        ("dtl-plus", "vit_b16", "backbone.drop_path", 2.3),
        ("dtl", "swin_b", "stage1.learning_rate", 0.0332),
        ("dtl", "swin_b", "backbone.drop_path", 6.5),
        ("dtl-plus", "swin_b", "stage1.learning_rate", 0.0505),
        ("dtl-plus", "swin_b", "backbone.drop_path", 6.7),
    ],
)
def test_columns_add_up(method, backbone, setting, total):
    assert sum(column(method, setting, backbone)) == pytest.approx(total)


def test_scales_are_powers_of_ten_as_often_as_released():
    for method, counts in {
        "fact-tk": {0.01: 1, 0.1: 1, 1.0: 4, 10.0: 9, 100.0: 4},
        "fact-tt": {0.01: 1, 0.1: 1, 1.0: 7, 10.0: 6, 100.0: 4},
    }.items():
        scales = column(method, "method.scale")
        assert {scale: scales.count(scale) for scale in sorted(set(scales))} == counts


def test_a_cell_has_the_values_of_its_task_and_says_whose_they_are():
    found, whose = config("svhn", "dtl-plus+linear"), sources("svhn", "dtl-plus+linear")
    name = {"name": "dtl-plus+linear"}
    assert found["method"] == name | {"rank": 2, "kernel": 5, "pool": "patches"}
    assert config("svhn", "fact-tk")["method"]["dropout"] == 0.1
    assert found["backbone"]["drop_path"] == 0.2
    for stage in ("stage1", "stage2"):
        assert found[stage]["learning_rate"] == 5e-3
        assert whose[f"{stage}.learning_rate"].startswith("heekhero/DTL")
        assert found[stage]["weight_decay"] == 0.05
    assert "stage2" not in config("svhn", "dtl-plus")
    clevr = config("clevr_dist", "ssf")
    assert clevr["stage1"] | {"learning_rate": 0.05, "weight_decay": 0.05} == clevr["stage1"]
    assert clevr["backbone"]["drop_path"] == 0.1
    assert "ViT-B/16" in sources("dtd", "fact-tk", backbone="swin_b")["method.rank"]


@pytest.mark.parametrize("backbone", PAPER.backbones)
def test_all_cells_of_the_paper_can_be_built_and_share_stage_1(backbone):
    for method in VTAB1K.methods_on[backbone]:
        for task in TASKS:
            found = config(task, method, backbone=backbone)
            options = {k: v for k, v in found["method"].items() if k != "name"}
            base = parse_method(method).base
            make_method(base, **options)
            if base != method:
                for name in ("learning_rate", "weight_decay"):
                    assert found["stage1"][name] == found["stage2"][name]
                first = config(task, base, backbone=backbone)["stage1"]
                assert first == found["stage1"]


@pytest.mark.parametrize(
    ("backbone", "method", "task"),
    [
        ("vit", "dtl-plus", "patch_camelyon"),
        ("swin", "dtl-plus", "svhn"),
        ("swin", "dtl", "svhn"),
        ("vit", "fact-tk", "dtd"),
        ("swin", "fact-tt", "clevr_dist"),
    ],
)
def test_methods_compute_with_these_options(backbone, method, task):
    options = config(task, method, backbone={"vit": "vit_b16", "swin": "swin_b"}[backbone])
    small = {"name": f"{backbone}_micro", "weights": "random", "drop_path": 0.0}
    model, _ = backbones.build(small, 5)
    made = make_method(method, **{k: v for k, v in options["method"].items() if k != "name"})
    made.adapt(model, backbones.head_of(small["name"]))
    outputs = model(torch.randn(2, 3, 32, 32))
    assert outputs.shape == (2, 5)
    outputs.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_dtl_on_swin_has_the_rank_and_kernel_of_its_repository():
    assert set(column("dtl", "method.rank", "swin_b")) == {4}
    assert set(column("dtl-plus", "method.rank", "swin_b")) == {4}
    assert set(column("dtl-plus", "method.kernel", "swin_b")) == {5}
    assert set(column("dtl", "method.rank")) == {2}


def test_real_images_are_normalised_as_each_backbone_was_trained():
    named = {b: config("pets", "lora-r8", backbone=b)["data"] for b in PAPER.backbones}
    assert {b: data["normalisation"] for b, data in named.items()} == {
        "vit_b16": "half",
        "swin_b": "half",
        "convnext_b": "imagenet",
    }
    assert sources("pets", "lora-r8", backbone="convnext_b")["data.normalisation"].startswith(
        "dongzelian/SSF"
    )
    assert {(d["image_size"], d["interpolation"]) for d in named.values()} == {(224, "bicubic")}


@pytest.mark.parametrize("scale", ["smoke", "micro"])
def test_the_embedded_world_has_none_of_it(scale):
    for method in VTAB1K.methods:
        data = config("svhn", method, backbone="vit_micro", scale=scale)["data"]
        assert not {"image_size", "interpolation"} & data.keys()
        assert data["normalisation"] == "half"
        whose = set(sources("svhn", method, backbone="vit_micro", scale=scale).values())
        assert not {source for source in whose if "train_scripts/vit/vtab/*" in source}
    assert len({config(t, "ssf", scale=scale, backbone="vit_micro")["stage1"]["learning_rate"]
                for t in TASKS}) == 1  # fmt: skip


def test_committed_records_are_those_of_the_declared_configurations():
    paths = sorted(RECORDS.rglob("*.json"))
    assert paths
    stale = []
    for path in paths:
        record = json.loads(path.read_text())
        cell = Cell.parse(path.relative_to(RECORDS.parent).with_suffix("").as_posix())
        benchmark, scale = declared(cell, "micro")
        if record["status"] == "ok" and not record["run"]["overrides"]:
            expected = config_hash(benchmark.config(cell, scale))
            if record["config_hash"] != expected:
                stale.append(str(cell))
    assert not stale


GOOD = """
[sources]
rank = "a/repository"
scale = "a/repository"

[every_task]
rank = 4

[tasks]
pets = { scale = 0.5 }
dtd = { scale = 2 }
"""


def loaded(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return released.load(path, ("pets", "dtd"))


def test_a_file_is_read_with_types_and_sources(tmp_path):
    found = loaded(tmp_path, GOOD)
    assert found["dtd"] == {"rank": (4, "a/repository"), "scale": (2.0, "a/repository")}
    assert type(found["dtd"]["scale"].value) is float


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dtd = { scale = 2 }", "", "mine.toml has no line for dtd"),
        ("dtd = {", "dtt = {", "mine.toml: unknown task 'dtt'; did you mean 'dtd'?"),
        ("{ scale = 2 }", "{ scal = 2 }", "mine.toml, dtd: unknown column 'scal'; did you mean"),
        ("{ scale = 2 }", "{ tokens = 2, scale = 2 }", "mine.toml, dtd: unknown column 'tokens'"),
        ("{ scale = 2 }", "{ }", "mine.toml: dtd has no scale"),
        ("{ scale = 2 }", "2", "mine.toml: the line of dtd is 2, not a table"),
        ("scale = 2 }", 'scale = "2" }', "mine.toml: scale of dtd is '2', not a number"),
        ("scale = 2 }", "scale = true }", "mine.toml: scale of dtd is True, not a number"),
        ("scale = 2 }", "scale = -2.0 }", "mine.toml: scale of dtd is -2.0, out of its range"),
        ("scale = 2 }", "scale = nan }", "mine.toml: scale of dtd is nan, out of its range"),
        ("rank = 4", "rank = 4.0", "mine.toml: rank of pets is 4.0, not a whole number"),
        ("rank = 4", "rank = 0", "mine.toml: rank of pets is 0, out of its range"),
        (
            "{ scale = 2 }",
            "{ scale = 2, rank = 3 }",
            "dtd has rank, which is one of every_task too",
        ),
        ('scale = "a/repository"', "scale = 3", "mine.toml: the source of scale is 3, not a text"),
        ('scale = "a/repository"', 'scal = "b"', "mine.toml: unknown column 'scal'"),
        ("[every_task]", "[each_task]", "mine.toml: unknown table 'each_task'; did you mean"),
        ("[sources]", "[sources", "mine.toml cannot be read"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(tmp_path, old, new, message):
    assert GOOD.count(old) == 1
    with pytest.raises(UsageError) as error:
        loaded(tmp_path, GOOD.replace(old, new))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Writes a sweep's file: settings of every task, and of some by name."""
    monkeypatch.setattr(swept, "folder_of", lambda benchmark: tmp_path)

    def write(every_task, name="lora-r8.vit_b16.paper", **tasks):
        found = {"sources": {}, "every_task": every_task, "tasks": tasks}
        for task, line in {"*": every_task, **tasks}.items():
            for setting in line:
                found["sources"].setdefault(setting, {})[task] = f"swept for {task}"
        text = "".join(
            f"[{table}]\n" + "".join(f"{_toml(k)} = {_toml(v)}\n" for k, v in content.items())
            for table, content in found.items()
        )
        (tmp_path / f"{name}.toml").write_text(text)

    return write


def test_a_choice_for_stage_1_is_that_of_a_base_and_all_that_starts_from_it(chosen):
    before = {m: config("pets", m) for m in ("lora-r4", "fact-tk")}
    chosen({"stage1.learning_rate": 0.004})
    for method in ("lora-r8", "lora-r8+linear", "lora-r8+control"):
        assert config("pets", method)["stage1"]["learning_rate"] == 0.004
    assert config("pets", "lora-r8+linear")["stage2"]["learning_rate"] == 0.004
    assert before == {method: config("pets", method) for method in before}
    assert config("pets", "lora-r8", backbone="swin_b")["stage1"]["learning_rate"] == 1e-3
    micro = config("pets", "lora-r8", backbone="vit_micro", scale="micro")
    assert micro["stage1"]["learning_rate"] == 5e-3
    assert sources("pets", "lora-r8")["stage1.learning_rate"] == "swept for *"
    second = sources("pets", "lora-r8+linear")["stage2.learning_rate"]
    assert second == "as stage 1: swept for *"


def test_a_choice_for_stage_2_is_that_of_its_method_alone(chosen):
    chosen({"stage1.learning_rate": 0.004})
    chosen({"stage2.weight": 7.0, "stage2.learning_rate": 0.002}, "lora-r8+linear.vit_b16.paper")
    linear, cosine = config("pets", "lora-r8+linear"), config("pets", "lora-r8+cosine")
    assert (linear["stage2"]["weight"], cosine["stage2"]["weight"]) == (7.0, 0.1)
    assert (linear["stage2"]["learning_rate"], cosine["stage2"]["learning_rate"]) == (0.002, 0.004)
    assert linear["stage1"] == cosine["stage1"] == config("pets", "lora-r8")["stage1"]


def test_a_choice_goes_before_what_is_released_and_one_task_before_all(chosen):
    chosen({"method.rank": 24}, "fact-tk.vit_b16.paper", pets={"method.rank": 8})
    assert config("pets", "fact-tk+linear")["method"]["rank"] == 8
    assert sources("pets", "fact-tk")["method.rank"] == "swept for pets"
    assert config("dtd", "fact-tk")["method"]["rank"] == 24
    assert config("dtd", "fact-tk")["method"]["scale"] == 0.01


def test_choices_of_the_embedded_world_are_applied_there(chosen):
    chosen({"stage1.learning_rate": 0.004}, "lora-r8.vit_micro.micro")
    found = config("pets", "lora-r8", backbone="vit_micro", scale="micro")
    assert found["stage1"]["learning_rate"] == 0.004
    assert config("pets", "lora-r8")["stage1"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[every_task]", "[every_tsk]", "must have the tables sources, every_task, tasks"),
        ("[every_task]", "[every_task", "cannot be read"),
        ("[tasks]\n", "[tasks]\npets = 3\n", "must have the tables"),
        ("[every_task]\n", "[every_task]\n'stage1.epochs' = 3\n", "stage1.epochs of * has no source"),
        ("rate\" = 0.004", 'rate\" = \"x\"', "stage1.learning_rate is x"),
        ("rate\" = 0.004", 'rate\" = -1.0', "stage1.learning_rate is -1.0"),
        ("learning_rate", "learning_rat", "lora-r8 has no setting 'stage1.learning_rat'"),
    ],
)  # fmt: skip
def test_a_file_of_choices_that_is_not_as_it_should_be_is_refused(
    chosen, tmp_path, old, new, message
):
    chosen({"stage1.learning_rate": 0.004})
    path = tmp_path / "lora-r8.vit_b16.paper.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UsageError) as error:
        config("pets", "lora-r8")
    assert message in str(error.value)


def test_a_setting_of_stage_1_belongs_to_the_base(chosen):
    chosen({"stage1.learning_rate": 0.004}, "lora-r8+linear.vit_b16.paper")
    with pytest.raises(
        UsageError, match=r"stage1\.learning_rate belongs to the base of lora-r8\+linear"
    ):
        config("pets", "lora-r8+linear")
