"""Values by task: that they are what was released, that methods take them, and whose they are."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
import torch

from benchmarks import backbones
from benchmarks.harness import sweep_file
from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import BENCHMARKS, declared
from benchmarks.harness.spec import config_hash
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


def entry(**changes):
    values = {
        "scale": "paper",
        "backbone": "vit_b16",
        "method": "lora-r8",
        "task": "*",
        "setting": "stage1.learning_rate",
        "value": 0.004,
        "accuracy": 0.5,
        "train": "train800",
        "split": "val200",
        "tasks": ["pets", "dtd"],
        "seeds": [0, 1],
        "candidates": [
            {"stage1.learning_rate": 0.004, "accuracy": 0.5},
            {"stage1.learning_rate": 9.0, "status": "diverged"},
        ],
        "overrides": {},
        "variant": "tfds",
        "data": {"pets": "0123456789ab"},
        "weights": ["some", "0123456789ab"],
        "commits": ["0123456789ab"],
    }
    return sweep_file.Entry(**values | changes)


@pytest.fixture
def swept(tmp_path, monkeypatch):
    path = tmp_path / "swept.toml"
    monkeypatch.setattr(sweep_file, "file_of", lambda benchmark: path)
    return lambda *entries: sweep_file.write(path, entries)


def test_a_choice_for_stage_1_is_that_of_a_base_and_all_that_starts_from_it(swept):
    before = {m: config("pets", m) for m in ("lora-r4", "fact-tk")}
    swept(entry())
    for method in ("lora-r8", "lora-r8+linear", "lora-r8+control"):
        assert config("pets", method)["stage1"]["learning_rate"] == 0.004
    assert config("pets", "lora-r8+linear")["stage2"]["learning_rate"] == 0.004
    assert before == {method: config("pets", method) for method in before}
    assert config("pets", "lora-r8", backbone="swin_b")["stage1"]["learning_rate"] == 1e-3
    assert (
        config("pets", "lora-r8", backbone="vit_micro", scale="micro")["stage1"]["learning_rate"]
        == 5e-3
    )
    assert sources("pets", "lora-r8")["stage1.learning_rate"] == (
        "our choice, by a sweep on val200: 50.0 % over pets dtd, seeds 0 1; "
        "the best of 0.004 (50.0 %), 9.0 (diverged)"
    )


def test_a_choice_for_stage_2_is_that_of_its_method_alone(swept):
    swept(
        entry(),
        entry(method="lora-r8+linear", setting="stage2.weight", value=7.0),
        entry(method="lora-r8+linear", setting="stage2.learning_rate", value=0.002),
    )
    linear, cosine = config("pets", "lora-r8+linear"), config("pets", "lora-r8+cosine")
    assert (linear["stage2"]["weight"], cosine["stage2"]["weight"]) == (7.0, 0.1)
    assert (linear["stage2"]["learning_rate"], cosine["stage2"]["learning_rate"]) == (0.002, 0.004)
    assert linear["stage1"] == cosine["stage1"] == config("pets", "lora-r8")["stage1"]


def test_a_choice_goes_before_what_is_released_and_one_task_before_all(swept):
    rank = {"method": "fact-tk", "setting": "method.rank"}
    swept(entry(**rank, task="pets", value=8), entry(**rank, value=24))
    assert config("pets", "fact-tk+linear")["method"]["rank"] == 8
    assert config("dtd", "fact-tk")["method"]["rank"] == 24
    assert config("dtd", "fact-tk")["method"]["scale"] == 0.01


def test_choices_of_the_embedded_world_are_applied_there(swept):
    swept(entry(scale="micro", backbone="vit_micro"))
    found = config("pets", "lora-r8", backbone="vit_micro", scale="micro")
    assert found["stage1"]["learning_rate"] == 0.004
    assert config("pets", "lora-r8")["stage1"]["learning_rate"] == 1e-3


def test_entries_are_read_as_they_were_written_and_replaced_by_key(tmp_path):
    path = tmp_path / "swept.toml"
    first = entry(overrides={"stage1.epochs": 5, "text": 'a "quoted" \\ é\n', "flag": True})
    other = entry(task="pets", value={"fraction": 0.5}, candidates=[])
    sweep_file.write(path, [first, other])
    assert sweep_file.read(path) == [first, other]
    again = entry(value=1e-05, accuracy=0.25)
    sweep_file.write(path, [again])
    assert sweep_file.read(path) == [again, other]
    assert [file.name for file in tmp_path.iterdir()] == ["swept.toml"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path):
    path = tmp_path / "swept.toml"
    sweep_file.write(path, [entry()])
    with pytest.raises(ValueError, match="not a number"):
        sweep_file.write(path, [entry(value=float("nan"))])
    assert sweep_file.read(path) == [entry()]
    with pytest.raises(UsageError, match="cannot be written"):
        sweep_file.write(tmp_path / "nowhere" / "swept.toml", [entry()])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value = 0.004\n", "", "choice 1 has no value"),
        ("value = 0.004\n", "value = 0.004\nvalu = 1\n", "choice 1 has an unknown key 'valu'"),
        ("accuracy = 0.5\n", 'accuracy = "x"\n', "accuracy is 'x', which is not of the type float"),
        ('method = "lora-r8"', 'method = "lora-r8+linear"', "belongs to the base of lora-r8+linear"),
        ("[[choice]]", "[[chosen]]", "is not a file of sweeps"),
        ("[[choice]]", "[[choice]", "cannot be read"),
        ('"stage1.learning_rate"\n', '"stage1.learning_rat"\n', "has no setting 'stage1.learning_rat'"),
    ],
)  # fmt: skip
def test_a_file_of_choices_that_is_not_as_it_should_be_is_refused(
    swept, tmp_path, old, new, message
):
    swept(entry())
    path = tmp_path / "swept.toml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError) as error:
        config("pets", "lora-r8")
    assert message in str(error.value)


def test_a_key_that_is_there_twice_is_refused(swept, tmp_path):
    swept(entry())
    path = tmp_path / "swept.toml"
    path.write_text(path.read_text() + path.read_text().partition("failed.\n")[2])
    with pytest.raises(UsageError, match=r"two choices for paper vit_b16 lora-r8 \*"):
        config("pets", "lora-r8")
