"""What pages show besides the Explorer itself: its uses in the chapters, still figures, quoted code, progress."""

import base64
import io
import json
from dataclasses import replace

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from ict_lib.config import Run
from ict_lib.consistency import ConsistencyModel
from ict_lib.data import load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.display.figures.consistency_model import pairs_explorer, trajectory_explorer
from ict_lib.display.figures.introduction import digits_explorer, poster_figure
from ict_lib.display.figures.precision import rounding_explorer
from ict_lib.display.figures.reproduce import learning_explorer
from ict_lib.display.figures.teacher import teacher_explorer
from ict_lib.display.plots import curves, still
from ict_lib.display.progress import images_per_second, progress
from ict_lib.display.source import say, source
from ict_lib.exact.point_mass import consistency_loss, gradient_parts, scaled_gradient
from ict_lib.exact.toy import ring, three_modes
from ict_lib.files import project_root
from ict_lib.grid import karras_sigmas
from ict_lib.recipe import Recipe
from ict_lib.run.record import Record
from ict_lib.techniques.curriculum import doubling
from ict_lib.training import Metrics, train, training_step
from ict_lib.training.measuring import grid, write_picture
from tests.test_display_explorer import unpack

matplotlib.use("Agg")


def readout(explorer, label):
    (found,) = [r for r in explorer.spec["readouts"] if r["label"] == label]
    return found


# --- value: what the figures show is the truth ---


def test_the_end_point_stays_while_the_noisy_point_moves():
    explorer = trajectory_explorer(three_modes(), num_scales=9, starts=3)
    ends, points, means = (
        np.array(readout(explorer, label)["text"], dtype=float).reshape(9, 3)
        for label in ("end point", "noisy point x", "denoiser")
    )
    assert np.ptp(ends, axis=0).max() == 0
    assert np.ptp(points, axis=0)[[0, 2]].min() > 100  # the middle one stays near 0
    assert np.abs(means[-1] - float(three_modes().weights @ three_modes().means[:, 0])).max() < 0.02  # the mean
    assert np.abs(means[0] - ends[0]).max() < 0.01  # they meet at the lowest level


def test_the_pairs_of_a_noisy_point_start_there_and_end_at_data_and_their_mean_is_the_denoiser():
    truth = ring(radius=0.7, std=0.035)
    explorer = pairs_explorer(truth, shown=5)
    sigmas = torch.logspace(-1.3, 0.5, 13, dtype=torch.float64)
    assert explorer.spec["sliders"][0]["text"] == [f"{sigma:.2g}" for sigma in sigmas]
    _, rays, _, way, point = explorer.spec["panels"][0]["marks"]
    points = np.stack([unpack(explorer, point[axis])[:, 0] for axis in "xy"], axis=1)
    ends = truth.consistency(torch.tensor(points, dtype=torch.float64), sigmas).numpy()
    assert np.ptp(ends, axis=0).max() < 1e-4  # one trajectory
    lines = np.stack([unpack(explorer, rays[axis]) for axis in "xy"], axis=-1).reshape(13, 5, 3, 2)
    assert np.abs(lines[:, :, 0] - points[:, None]).max() < 1e-6
    from_a_mode = np.linalg.norm(lines[:, :, 1, None] - truth.means.numpy(), axis=-1).min(axis=-1)
    assert from_a_mode.max() < 5 * 0.035
    assert np.isnan(lines[:, :, 2]).all()  # the pen is lifted
    means = np.stack([unpack(explorer, way[axis])[:, 1] for axis in "xy"], axis=1)
    denoised = truth.denoiser(torch.tensor(points, dtype=torch.float64), sigmas).numpy()
    assert np.abs(means - denoised).max() < 1e-5
    distance, expected = (unpack(explorer, mark["y"]) for mark in explorer.spec["panels"][1]["marks"])
    assert (distance[:, -1] < 4 * expected[:, -1] + 1e-3).all()
    assert (distance[:, -1] < distance[:, 0]).all()


def test_the_teacher_figure_has_the_known_numbers():
    explorer = teacher_explorer()
    at = explorer.spec["sliders"][1]["text"].index
    data, teacher, total, standstill = (
        np.array(readout(explorer, label)["text"], dtype=float).reshape(8, -1)
        for label in ("pull towards the data", "pull towards the teacher", "gradient", "θ⁻ at which it is zero")
    )
    assert abs(data[0, 0] - 10.82) < 0.01
    assert [total[-1, at(text)] for text in ("1.1", "1", "0.9")] == pytest.approx([-117.3, 7.73, 132.7], abs=0.1)
    assert standstill[-1, 0] == pytest.approx(1.0062, abs=1e-4)
    assert np.abs(teacher[:, at("1")]).max() == 0


@pytest.mark.parametrize(("theta", "xi"), [(1.0, 0.0), (-0.5, 2.0)])
def test_the_teacher_figure_shows_an_average_where_it_is_behind_the_student(theta, xi):
    """Past students are farther from the data: that side comes first, and at the start the page shows it."""
    explorer = teacher_explorer(theta, xi)
    teachers = np.array(explorer.spec["sliders"][1]["text"], dtype=float)
    behind = (teachers - theta) * (theta - xi) > 0
    assert behind[0]
    assert behind[explorer.index[1]]
    assert not behind.all()
    total = np.array(readout(explorer, "gradient")["text"], dtype=float).reshape(8, -1) * np.sign(theta - xi)
    assert (total[-1, behind] < 0).all()  # away from the data
    assert (total[:, teachers == theta] > 0).all()  # towards the data


def test_no_system_of_the_poster_hides_another():
    poster = pd.read_csv(project_root() / "book" / "poster.csv").astype({"NFE": int, "FID": float})
    figure = poster_figure(poster)
    figure.draw_without_rendering()
    marks = figure.axes[0].collections[0]
    places = marks.get_offset_transform().transform(marks.get_offsets())
    assert len(places) == len(poster)
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[~np.eye(len(places), dtype=bool)]
    assert gaps.min() > figure.dpi / 72 * np.sqrt(marks.get_sizes().max()) / 2  # half of a mark


def test_the_minimum_that_is_drawn_minimises_the_weighted_loss():
    sigmas = karras_sigmas(161)
    minimum = 0.5 * _factor(sigmas, "teacher") / (_factor(sigmas, "teacher") + _factor(sigmas, "data"))
    assert abs(float(scaled_gradient(minimum, 0.5, 0.0, sigmas))) < 1e-9
    assert float(consistency_loss(minimum, 0.5, 0.0, sigmas)) < float(consistency_loss(0.0, 0.5, 0.0, sigmas))


def _factor(sigmas, which):
    return float(gradient_parts(1.0, 0.0, 0.0, sigmas)[which == "teacher"])


def test_the_digits_figure_ends_on_real_digits():
    data = load_dataset("digits")
    few = Dataset(data.images[:40], data.labels[:40], 10, "few")
    explorer = digits_explorer(few, num=3, num_scales=5)
    gaps = np.array(explorer.spec["readouts"][0]["text"], dtype=float)
    assert gaps[0] < 0.01  # at the lowest level the denoiser has arrived
    assert gaps[-1] > 0.2  # at the highest it is the mean of all


# --- invariant ---


def test_a_grid_holds_every_image_where_it_belongs():
    images = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 4, 4)
    sheet = grid(images, columns=3)
    assert sheet.shape == (9, 14)
    assert [int(sheet[r, c]) for r, c in ((0, 0), (0, 5), (0, 10), (5, 0), (5, 5))] == [0, 64, 128, 191, 255]
    assert int(sheet[5, 10]) == 255  # an empty place is paper
    assert int(sheet[4, 0]) == 255  # and so is the line between two rows
    assert grid(images.expand(5, 3, 4, 4)).shape[2:] == (3,)


def test_speed_is_that_between_two_records():
    first = Metrics(seed=0, step=10, num_scales=11, loss=1.0, images_seen=1000, seconds=4.0)
    second = Metrics(seed=0, step=20, num_scales=11, loss=1.0, images_seen=2000, seconds=6.0)
    assert images_per_second(None, first) == 250
    assert images_per_second(first, second) == 500


SMALL = Run(steps=6, log_every=2, batch_size=8, network_options={"width": 8, "blocks": 1}, device="cpu")


def looking(training, folder):
    """A training that leaves a picture at each line but the second, whose grey says the step."""

    def look(training, steps_taken):
        if training.step != 4:
            write_picture(
                folder / "looks" / f"step-{training.step:09d}.png", torch.full((6, 1, 8, 8), training.step / 9)
            )
        return {}

    training.evaluate = look
    return training


def test_progress_passes_everything_on_and_shows_no_picture_on_a_terminal(tmp_path, capsys):
    seen = list(progress(looking(train(SMALL, folder=tmp_path), tmp_path)))
    assert [m.step for m in seen] == [2, 4, 6]
    said = capsys.readouterr()
    assert "seed 0: 100%" in said.err
    assert "6/6 steps, N=321, loss=" in said.err
    assert said.out == ""


def test_a_notebook_shows_the_newest_samples_alone(tmp_path):
    """One place on the page, filled once and then filled again."""
    InteractiveShell.instance()
    try:
        with capture_output() as captured:
            list(progress(looking(train(SMALL, folder=tmp_path), tmp_path)))
    finally:
        InteractiveShell.clear_instance()
    pictures = [base64.b64decode(output.data["image/png"]) for output in captured.outputs]
    levels = [matplotlib.image.imread(io.BytesIO(picture), format="png")[4, 4, 0] for picture in pictures]
    assert levels == pytest.approx([(1 + step / 9) / 2 for step in (2, 6)], abs=0.01)


# --- reference: quoted code is the library's ---


def test_quoted_code_runs_and_is_the_librarys():
    shown = source(doubling).data
    code = shown.removeprefix("```python\n").removesuffix("```")
    assert '"""' not in code
    namespace = {"math": __import__("math"), "_check": lambda *_: None}
    exec(code, namespace)
    assert [namespace["doubling"](k, 800) for k in (0, 100, 799)] == [doubling(k, 800) for k in (0, 100, 799)]


def test_quoted_classes_lose_the_docstrings_of_their_methods_too():
    assert '"""' not in source(ConsistencyModel).data
    assert "return skip * x" in source(ConsistencyModel).data


def test_of_a_dataclass_the_fields_alone_can_be_quoted():
    quoted = source(Recipe, fields=True).data
    assert "fourier_scale: float" in quoted
    assert "sigma_data: float" in quoted
    assert "def " not in quoted


def test_the_training_step_fits_on_a_page():
    assert len(source(training_step).data.splitlines()) <= 25


def test_say_keeps_markdown():
    assert (
        say(
            """**a**
            b"""
        ).data
        == "**a**\nb"
    )


def test_a_still_figure_carries_its_words():
    figure, _ = matplotlib.pyplot.subplots()
    data, metadata = still(figure, "a line that rises\n    with σ")._repr_mimebundle_()
    content = base64.b64decode(data["image/png"])
    assert PIL.Image.open(io.BytesIO(content)).info["Description"] == "a line that rises with σ"
    assert metadata["image/png"]["alt"] == "a line that rises with σ"
    assert not matplotlib.pyplot.fignum_exists(figure.number)  # a notebook does not show it a second time


# --- shapes ---


@pytest.fixture
def record(tmp_path):
    """A run of two seeds, of which the second has pictures of two steps."""

    def build(channels=1, size=8, steps=(10, 30)):
        lines = [{"seed": s, "step": k, "loss": 1.0} for s in (3, 4) for k in (10, 20, 30)]
        for line in lines:
            if line["step"] != 20:
                line["frechet_pixels_1_step"] = line["seed"] / line["step"]
        for step in steps:
            images = torch.linspace(-1, 1, channels).view(1, channels, 1, 1).expand(4, channels, size, size) * step / 30
            write_picture(tmp_path / "seed-4" / "looks" / f"step-{step:09d}.png", images, columns=2)
        return Record("r", {"run": {**replace(SMALL, seeds=[3, 4]).to_dict(), "recipe": {}}}, lines, tmp_path)

    return build


def test_the_learning_figure_has_one_position_a_look(record):
    explorer = learning_explorer(record(), seed=4)
    assert explorer.index == [1]
    assert explorer.spec["sliders"][0]["text"] == ["10", "30"]
    pixels = explorer.spec["panels"][0]["marks"][0]["pixels"]
    assert pixels["shape"] == [2, 17, 17]  # not as enlarged as the file
    assert unpack(explorer, pixels)[:, 1, 1].tolist() == [round((1 - 1 / 3) * 127.5), 0]
    line, _ = explorer.spec["panels"][1]["marks"]
    np.testing.assert_allclose(unpack(explorer, line["y"])[0], [4 / 10, 4 / 30], rtol=1e-6)
    assert json.loads(json.dumps(explorer.spec)) == explorer.spec


def test_the_learning_figure_shows_colours_where_the_images_have_them(record):
    mark = learning_explorer(record(channels=3, size=32), seed=4).spec["panels"][0]["marks"][0]
    assert mark["colored"] is True
    assert mark["pixels"]["shape"] == [2, 65, 65, 3]


def test_without_two_looks_there_is_no_learning_figure(record):
    assert learning_explorer(record()) is None  # the first seed has none
    assert learning_explorer(record(steps=(10,)), seed=3) is None


def test_the_rounding_figure_shows_what_was_measured_of_each_grid_and_precision():
    """The grid of 3 levels has fewer pairs: its curves end earlier."""
    sizes = {(n, p): (2 if n == 3 else 4) for n in (3, 9) for p in ("fp32", "bf16")}
    rows = [
        {
            "num_scales": n,
            "precision": p,
            "sigma_hi": 0.1 * 2**i,
            "signal": 1 / n,
            "rounding": (1 + i) * 10.0 ** -len(p),
        }
        for (n, p), size in sizes.items()
        for i in range(size)
    ]
    share = {str(n): {"fp32": 0.0, "bf16": n / 100} for n in (3, 9)}
    explorer = rounding_explorer({"rows": rows, "share_above_signal": share})
    assert [slider["text"] for slider in explorer.spec["sliders"]] == [["3", "9"], ["fp32", "bf16"]]
    named = rounding_explorer({"rows": rows, "share_above_signal": share}, "what differs")
    assert [e.spec["sliders"][1]["label"] for e in (explorer, named)] == ["precision of the passes", "what differs"]
    assert explorer.index == [1, 1]
    signal, error = (unpack(explorer, mark["y"]) for mark in explorer.spec["panels"][0]["marks"])
    (ratio, _) = (unpack(explorer, mark["y"]) for mark in explorer.spec["panels"][1]["marks"])
    assert np.isnan(signal[0, :, 2:]).all()
    np.testing.assert_allclose(error[1, 0], [1e-4, 2e-4, 3e-4, 4e-4], rtol=1e-6)
    np.testing.assert_allclose(ratio[1], error[1] / signal[1], rtol=1e-6)
    assert readout(explorer, "share of the drawn pairs with more rounding than signal")["text"][-1] == "9.0 %"


def test_curves_draw_median_and_band_over_seeds():
    metrics = [{"seed": seed, "step": step, "loss": step + seed} for seed in (0, 1, 5) for step in (1, 2)]
    _, ax = matplotlib.pyplot.subplots()
    curves(ax, Record("r", {}, metrics, None), "loss", "r")
    assert ax.lines[0].get_ydata().tolist() == [2.0, 3.0]


# --- errors ---


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (3, 2, 8, 8), (3, 8, 8)])
def test_a_grid_refuses_what_is_no_images(shape):
    with pytest.raises(ValueError, match="1 or 3"):
        grid(torch.zeros(shape))


def test_curves_refuse_an_unknown_metric():
    with pytest.raises(ValueError, match="no metric 'los'"):
        curves(None, Record("r", {}, [{"step": 1, "loss": 1.0}], None), "los", "r")
