"""Labels mean what they say, seen from the pixels or from the scene that was drawn."""

import numpy as np
import pytest

from data_prep.embedded import draw
from data_prep.embedded.vtab1k import (
    TASKS,
    generate,
    medical,
    objects,
    road,
    solids,
    sprites,
    table,
)

BY_NAME = {task.name: task for task in TASKS}


def _rng(seed=0):
    return np.random.default_rng(seed)


def _labels(name, n):
    return np.arange(n, dtype=np.int64) % BY_NAME[name].num_classes


def _centroid(images):
    grey = images[:, 0] / 255.0
    x, y = draw.grid(32)
    mass = grey.sum(axis=(1, 2))
    return (grey * x).sum(axis=(1, 2)) / mass, (grey * y).sum(axis=(1, 2)) / mass


def test_dsprites_loc_centroid_lies_in_the_labelled_bin():
    images, labels = generate(BY_NAME["dsprites_loc"], "test", n=600)
    x, _ = _centroid(images)
    pixel = 2 / 32
    width = 2 * sprites.REACH / sprites.BINS
    low = -sprites.REACH + labels * width
    outside = np.maximum(np.maximum(low - x, x - low - width), 0.0)
    assert outside.max() < 0.25 * pixel
    assert (sprites.position_bin(x) == labels).mean() > 0.9


def _pointer(images):
    """A complex moment that turns with the shape: sum of |z|^2 z about the centroid."""
    x, y = draw.grid(32)
    cx, cy = _centroid(images)
    z = (x - cx[:, None, None]) + 1j * (y - cy[:, None, None])
    return (images[:, 0] / 255.0 * np.abs(z) ** 2 * z).sum(axis=(1, 2))


@pytest.mark.parametrize("bins", [1, 4, 8])
def test_dsprites_ori_turns_by_the_labelled_angle(bins):
    labels = _labels("dsprites_ori", 400)
    first = _pointer(sprites.dsprites_ori(_rng(5), labels, "test"))
    second = _pointer(sprites.dsprites_ori(_rng(5), (labels + bins) % 16, "test"))
    turned = np.angle(second / first / np.exp(2j * np.pi * bins / 16))
    assert np.median(np.abs(turned)) < np.radians(6)


def test_clevr_count_is_the_number_of_visible_objects():
    labels = _labels("clevr_count", 400)
    rng = _rng()
    images, owner = table.render(rng, table.arrange(rng, labels + table.FEWEST))
    visible = np.asarray([len(np.unique(o[o >= 0])) for o in owner])
    assert (visible == labels + 3).mean() > 0.99
    assert images.shape == (400, 3, 32, 32)


def test_clevr_objects_differ_from_the_table():
    labels = np.full(50, 7)
    rng = _rng(1)
    things = table.arrange(rng, labels + table.FEWEST)
    state = rng.bit_generator.state
    drawn, owner = table.render(rng, things)
    rng.bit_generator.state = state
    nothing = table.Things(np.zeros_like(things.present), *list(vars(things).values())[1:])
    empty, _ = table.render(rng, nothing)
    changed = np.abs(drawn.astype(int) - empty).max(axis=1)
    assert changed[owner >= 0].mean() > 40
    assert changed[owner < 0].mean() < 20


def test_clevr_dist_is_the_class_of_the_nearest_object():
    labels = _labels("clevr_dist", 300)
    rng = _rng()
    things = table.near_scene(rng, labels)
    nearest = np.where(things.present, things.distance, np.inf).min(axis=1)
    assert (table.distance_class(nearest) == labels).all()
    _, owner = table.render(rng, things)
    index = np.where(things.present, things.distance, np.inf).argmin(axis=1)
    assert (owner == index[:, None, None]).any(axis=(1, 2)).all(), "the nearest object is hidden"
    lowest = np.asarray([np.flatnonzero((o >= 0).any(axis=1)).max() for o in owner])
    means = [lowest[labels == k].mean() for k in range(6)]
    assert (np.diff(means) < 0).all(), "nearer is lower in the picture"


def test_distance_on_an_edge_falls_in_the_lower_class():
    assert table.distance_class(np.asarray([3.25, 3.26])).tolist() == [0, 1]


def test_kitti_none_has_no_vehicle_and_others_show_the_nearest():
    labels = _labels("kitti_dist", 400)
    rng = _rng()
    cars = road.traffic(rng, labels)
    images, owner = road.render_road(rng, cars)
    none = labels == road.NO_VEHICLE
    assert (owner[none] < 0).all()
    assert (owner[~none] >= 0).any(axis=(1, 2)).all()
    nearest = np.where(cars.present, cars.distance, 1000.0).min(axis=1)
    assert (np.digitize(nearest, [8.0, 20.0, 999.0]) == labels).all()
    size = (owner >= 0).sum(axis=(1, 2))
    assert size[labels == 0].mean() > 3 * size[labels == 1].mean() > 6 * size[labels == 2].mean()
    assert images.dtype == np.uint8


def test_dmlab_label_sets_distance_and_kind():
    n = 120
    seen = {k: road.dmlab(_rng(2), np.full(n, k), "test").astype(int) for k in range(6)}

    def changed(a, b):
        return (np.abs(seen[a] - seen[b]).max(axis=1) > 25).mean()

    assert changed(0, 2) > 1.5 * changed(2, 4) > 0.01  # a near object covers more
    assert changed(0, 1) > 0.02
    assert changed(4, 5) > 0.002
    assert (np.diff(road.REACHES.ravel()) > 0).all()


def test_svhn_digit_pools_are_disjoint_and_whole():
    pools = [set(objects.digit_pool(split).tolist()) for split in ("train800", "val200", "test")]
    assert len(set.union(*pools)) == sum(len(pool) for pool in pools) == 1797


@pytest.mark.parametrize("split", ["train800", "val200", "test"])
def test_svhn_draws_the_labelled_digit_from_its_pool(split):
    labels = _labels("svhn", 300)
    chosen = objects.pick_digits(_rng(), labels, split)
    assert set(chosen.tolist()) <= set(objects.digit_pool(split).tolist())
    assert (objects._digits()[1][chosen] == labels).all()


def test_tumour_cells_lie_in_the_centre_exactly_where_labelled():
    labels = _labels("patch_camelyon", 300)
    cells = medical.tissue(_rng(), labels)
    central = np.maximum(np.abs(cells.x), np.abs(cells.y)) < medical.CENTRE
    assert ((cells.tumour.astype(bool) & central).any(axis=1) == labels.astype(bool)).all()
    rim = cells.tumour.astype(bool) & ~central
    assert rim[labels == 0].any(axis=1).mean() > 0.3, "the rim must not give the label away"


def test_retinopathy_grades_bound_the_lesions():
    labels = np.arange(500) % 5
    counts = medical.lesion_counts(_rng(), labels)
    bounds = np.asarray(medical.LESIONS)[labels]
    assert (counts >= bounds[..., 0]).all()
    assert (counts <= bounds[..., 1]).all()
    assert counts[labels == 0].sum() == 0
    ranges = {tuple(map(tuple, grade)) for grade in medical.LESIONS}
    assert len(ranges) == 5


def test_retinopathy_lesions_darken_or_brighten_the_eye():
    healthy = medical.retinopathy(_rng(3), np.zeros(40, dtype=np.int64), "test").astype(int)
    ill = medical.retinopathy(_rng(3), np.full(40, 4), "test").astype(int)
    assert np.abs(ill - healthy).mean() > 5


def _silhouette(boxes, azimuth, elevation):
    x, y = draw.grid(64)
    view = solids.camera(np.radians([azimuth]), np.radians([elevation]))
    toy = np.asarray([boxes], dtype=np.float32)
    light, albedo = np.asarray([[0.0, 0.0, 1.0]], dtype=np.float32), np.ones((1, len(boxes)))
    return solids.cast(toy, view, x, y, light, albedo.astype(np.float32))[0]


def test_smallnorb_elevation_foreshortens():
    pole = [(0.0, 0.0, 0.0, 0.02, 0.02, 0.8)]
    for elevation in (30, 50, 70):
        height = (_silhouette(pole, 0, elevation) > 0).any(axis=1).sum() / 32
        assert height == pytest.approx(1.6 * np.cos(np.radians(elevation)), abs=0.08)


def test_smallnorb_azimuth_moves_the_nose():
    nose = [(0.7, 0.0, 0.0, 0.1, 0.1, 0.1)]
    for azimuth in (0, 90, 200, 290):
        _, columns = np.nonzero(_silhouette(nose, azimuth, 40) > 0)
        expected = 0.7 * -np.sin(np.radians(azimuth))
        assert columns.mean() / 32 - 1 == pytest.approx(expected, abs=0.06)


def test_smallnorb_lights_the_top_and_hides_what_lies_behind():
    tones = _silhouette([(0, 0, 0, 0.4, 0.4, 0.4)], 30, 40)
    assert np.unique(tones[tones > 0]).size == 2  # lit top, unlit sides
    front, back = (0.5, 0, 0, 0.1, 0.4, 0.4), (-0.5, 0, 0, 0.1, 0.4, 0.4)
    both = _silhouette([back, front], 0, 1)
    assert (both > 0).sum() == pytest.approx((_silhouette([front], 0, 1) > 0).sum(), rel=0.05)


@pytest.mark.parametrize("name", ["smallnorb_azim", "smallnorb_elev"])
def test_smallnorb_label_changes_the_pose_alone(name):
    labels = _labels(name, 60)
    render = BY_NAME[name].render
    first = render(_rng(4), labels, "test").astype(int)
    second = render(_rng(4), (labels + 4) % BY_NAME[name].num_classes, "test").astype(int)
    border = np.r_[0, 31]
    assert (first[:, :, border] == second[:, :, border]).mean() > 0.8  # same ground, same noise
    assert np.abs(first - second)[:, :, 8:24, 8:24].mean() > 8


def _least_squares_accuracy(features, labels):
    """Fit a linear classifier on one half and score it on the other."""
    half = len(labels) // 2
    design = np.c_[features, features**2, np.ones(len(features))]
    scale = np.abs(design).max(axis=0) + 1e-9
    targets = np.eye(labels.max() + 1)[labels]
    design = design / scale
    ridge = 1e-3 * half * np.eye(design.shape[1])
    weights = np.linalg.solve(
        design[:half].T @ design[:half] + ridge, design[:half].T @ targets[:half]
    )
    return ((design[half:] @ weights).argmax(axis=1) == labels[half:]).mean()


@pytest.mark.parametrize(
    "name", ["clevr_count", "dsprites_loc", "dsprites_ori", "smallnorb_azim", "kitti_dist", "svhn"]
)
def test_mean_colour_does_not_solve(name):
    images, labels = generate(BY_NAME[name], "test", n=800)
    accuracy = _least_squares_accuracy(images.mean(axis=(2, 3)), labels)
    assert accuracy < 1 / BY_NAME[name].num_classes + 0.12


def test_the_classifier_of_these_tests_finds_a_signal():
    images, labels = generate(BY_NAME["dsprites_loc"], "test", n=800)
    columns = images[:, 0].mean(axis=1)
    assert _least_squares_accuracy(columns, labels) > 0.3
