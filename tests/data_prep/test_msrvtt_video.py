"""Videos of every kind through FFmpeg: CLIP4Clip's frames, or a name for what is wrong."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.errors import DataError
from data_prep.msrvtt import sampling, video
from data_prep.torchvision_guard import ensure_torchvision

_spec = importlib.util.spec_from_file_location("videos", Path(__file__).with_name("videos.py"))
videos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(videos)

SIZE = 32
both_containers = pytest.mark.parametrize("ending", [".mp4", ".webm"])


# --- which frames, worked by hand ---


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (1, [0]),
        (12, list(range(12))),
        (13, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]),
        (20, [0, 1, 3, 5, 6, 8, 10, 12, 13, 15, 17, 19]),
        (31, [0, 2, 5, 8, 10, 13, 16, 19, 21, 24, 27, 30]),
    ],
)
def test_of_many_seconds_twelve_are_kept(count, kept):
    assert sampling.spread(count) == kept


def _taken(times, rate):
    rate = Fraction(rate)
    timed = ((k, None if t is None else Fraction(t)) for k, t in enumerate(times))
    return list(sampling.each_second(sampling.numbered(timed, rate), sampling.step_of(rate)))


def test_the_first_frame_of_each_second_by_whole_rates():
    steady = [Fraction(k, 30) for k in range(95)]
    assert _taken(steady, 30) == [0, 30, 60, 90]
    assert _taken(steady[:90], 30) == [0, 30, 60]
    # 29.97 a second is cut to 29: every 29th frame, of 300 there are eleven.
    ntsc = [k * Fraction(1001, 30000) for k in range(300)]
    assert _taken(ntsc, Fraction(30000, 1001)) == [29 * k for k in range(11)]
    assert _taken([0], 30) == [0]
    # Less than one a second: each frame.
    assert _taken([0, 2, 4], Fraction(1, 2)) == [0, 1, 2]


def test_a_frame_counts_for_as_long_as_it_is_on_the_screen():
    # At the seconds 0 to 5: frame 0; frame 2, which came at 0.9; the same; the same; 3; 4.
    times = ["0", "0.3", "0.9", "3.7", "5"]
    assert _taken(times, 10) == [0, 2, 2, 2, 3, 4]
    # A first frame that does not come at 0, a time that goes back, and frames without times.
    assert _taken(["7", "7.5", "7.2", "8.1"], 10) == [0, 2]
    assert _taken([None] * 25, 10) == [0, 10, 20]


# --- the recipe, run by OpenCV and torchvision as the public code runs it ---


def _recipe(path, size):
    cv2 = pytest.importorskip("cv2")
    ensure_torchvision()
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    fit = Compose([Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size)])
    capture = cv2.VideoCapture(str(path))
    count, rate = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    found = []
    for second in range((count + rate - 1) // rate + 1):
        capture.set(cv2.CAP_PROP_POS_FRAMES, second * rate)
        there, image = capture.read()
        if not there:
            break
        image = Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        found.append(np.asarray(fit(image)).transpose(2, 0, 1))
    if len(found) > 12:
        found = [found[k] for k in np.linspace(0, len(found) - 1, num=12, dtype=int)]
    return np.stack(found)


@both_containers
@pytest.mark.parametrize(
    ("rate", "count", "size"),
    [
        (30, 95, (64, 48)),
        (Fraction(30000, 1001), 300, (40, 30)),
        (25, 50, (36, 52)),
        (5, 77, (32, 32)),
        (12, 1, (64, 48)),
    ],
)
def test_frames_are_those_of_the_public_recipe(tmp_path, ending, rate, count, size):
    rng = np.random.default_rng(count)
    width, height = size
    base = rng.integers(0, 256, (1, height, width, 3))
    frames = (base + 3 * np.arange(count)[:, None, None, None]) % 256
    path = videos.write(tmp_path / f"a{ending}", rate=rate, frames=[*frames.astype(np.uint8)])
    clip = video.read(path, 24)
    assert clip.notes == ()
    assert clip.pixels.dtype == np.uint8
    assert np.array_equal(clip.pixels, _recipe(path, 24))


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (33, 47), (47, 33), (224, 224), (7, 90)])
@pytest.mark.parametrize("target", [224, 25])
def test_resizing_and_cropping_are_torchvisions(size, target):
    ensure_torchvision()
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    fit = Compose([Resize(target, interpolation=InterpolationMode.BICUBIC), CenterCrop(target)])
    expected = np.asarray(fit(Image.fromarray(image))).transpose(2, 0, 1)
    assert np.array_equal(video.fit(image, target), expected)


# --- videos that are not as usual ---


@both_containers
def test_a_variable_frame_rate_is_sampled_by_time(tmp_path, ending):
    # Ten frames in the first second, then one each at 1.0, 2.6, 2.7 and 3.9 seconds.
    times = [*range(0, 1000, 100), 1000, 2600, 2700, 3900]
    path = videos.write(tmp_path / f"v{ending}", rate=6, times=times)
    clip = video.read(path, SIZE)
    assert videos.numbers_of(clip.pixels) == [0, 10, 10, 12]
    assert clip.notes == ()


@both_containers
def test_one_frame(tmp_path, ending):
    clip = video.read(videos.write(tmp_path / f"one{ending}", 1), SIZE)
    assert videos.numbers_of(clip.pixels) == [0]
    assert clip.notes == ()


@both_containers
def test_sound_without_pictures_is_named(tmp_path, ending):
    path = videos.write_audio(tmp_path / f"sound{ending}")
    with pytest.raises(DataError, match=r"no video stream in it \(audio\)"):
        video.read(path, SIZE)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable video"):
        video.read(path, SIZE)


def _noise(count, size=(64, 48)):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in range(count)]


def test_an_mp4_without_its_index_is_named(tmp_path):
    path = videos.cut(videos.write(tmp_path / "cut.mp4", frames=_noise(50)))
    with pytest.raises(DataError, match="not a readable video"):
        video.read(path, SIZE)


@pytest.mark.parametrize(
    ("ending", "options"), [(".mp4", {"movflags": "faststart"}), (".webm", {})]
)
def test_a_truncated_video_gives_what_there_is_and_is_noted(tmp_path, ending, options):
    often = {"g": "5"}
    path = videos.write(
        tmp_path / f"cut{ending}", frames=_noise(60), options=options, codec_options=often
    )
    whole = video.read(path, SIZE)
    assert (len(whole.pixels), whole.notes) == (6, ())
    part = video.read(videos.cut(path), SIZE)
    assert 2 <= len(part.pixels) <= 4
    assert np.array_equal(part.pixels[:2], whole.pixels[:2])
    assert any("of 6.0 seconds" in note for note in part.notes), part.notes


def test_a_hole_in_a_video_is_passed_over_and_noted(tmp_path):
    path = videos.write(tmp_path / "hole.mp4", frames=_noise(60), codec_options={"g": "5"})
    whole = video.read(path, SIZE)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(bytes(content))
    clip = video.read(path, SIZE)
    assert len(clip.pixels) == 6
    assert np.array_equal(clip.pixels[[0, -1]], whole.pixels[[0, -1]])
    assert any("damaged packet" in note for note in clip.notes), clip.notes


QUARTERS = {"nw": (250, 0, 0), "ne": (0, 250, 0), "sw": (0, 0, 250), "se": (10, 10, 10)}


def _quarters(width=64, height=48):
    frame = np.zeros((height, width, 3), np.uint8)
    for name, colour in QUARTERS.items():
        rows = slice(None, height // 2) if name[0] == "n" else slice(height // 2, None)
        columns = slice(None, width // 2) if name[1] == "w" else slice(width // 2, None)
        frame[rows, columns] = colour
    return frame


@pytest.mark.parametrize(
    ("rotation", "flip", "expected"),
    [
        (0, False, ["nw", "ne", "sw", "se"]),
        (90, False, ["ne", "se", "nw", "sw"]),  # counter-clockwise
        (180, False, ["se", "sw", "ne", "nw"]),
        (-90, False, ["sw", "nw", "se", "ne"]),
        (0, True, ["ne", "nw", "se", "sw"]),
        (90, True, ["se", "ne", "sw", "nw"]),
    ],
)
def test_videos_are_turned_as_they_are_shown(tmp_path, rotation, flip, expected):
    path = tmp_path / "turned.mp4"
    videos.write(path, frames=[_quarters()] * 3, rotation=rotation, flip=flip)
    clip = video.read(path, SIZE)
    assert clip.notes == ()
    near, far = SIZE // 4, 3 * SIZE // 4
    shown = [clip.pixels[0, :, y, x] for y in (near, far) for x in (near, far)]
    found = [
        min(QUARTERS, key=lambda name: np.abs(pixel.astype(int) - QUARTERS[name]).sum())
        for pixel in shown
    ]
    assert found == expected


def test_a_slanted_display_matrix_is_noted(tmp_path):
    path = videos.write(tmp_path / "slanted.mp4", frames=[_quarters()] * 3, rotation=45)
    assert video.read(path, SIZE).notes == (
        "its display matrix turns by no multiple of 90 degrees, and is not applied",
    )


@both_containers
@pytest.mark.parametrize("size", [(63, 47), (47, 101), (37, 36)])
def test_odd_sizes(tmp_path, ending, size):
    path = videos.write(tmp_path / f"odd{ending}", 25, size=size, pix_fmt="yuv444p")
    clip = video.read(path, SIZE)
    assert clip.pixels.shape == (3, 3, SIZE, SIZE)
    assert videos.numbers_of(clip.pixels) == [0, 10, 20]
    assert clip.notes == ()
