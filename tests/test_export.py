"""Models as folders of diffusers: `ict_lib.export`; read and sampled by diffusers alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

from ict_lib.consistency import ConsistencyModel, c_in, c_out, c_skip
from ict_lib.export.pipeline import save_pipeline, timestep_of
from ict_lib.export.unet import unet_config, unet_weights
from ict_lib.grid import karras_sigmas
from ict_lib.networks.adm import ADM
from ict_lib.networks.build import build_network
from ict_lib.recipe import ICT, ICT_DEEP
from ict_lib.sampling import sample

INDEX, UNET, SCHEDULER = "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
TINY = {
    "channels": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention_resolutions": (4,),
    "head_channels": 16,
    "dropout_resolution": 8,
    "embedding_scale": 1000.0,
    "groups": 8,
}
GRID = {"sigma_min": 0.003, "sigma_max": 50.0, "rho": 5.0}  # none of them the usual one
# Networks that differ in every option; shape, classes, options.
NETWORKS = {
    "plain": ((3, 8, 8), 0, {}),
    "labels": ((3, 8, 8), 3, {}),
    "AdaGN": ((3, 8, 8), 0, {"adaptive_norm": True}),
    "AdaGN and labels": ((3, 8, 8), 3, {"adaptive_norm": True}),
    "grey, 2 blocks, one head": ((1, 8, 8), 0, {"blocks": 2, "head_channels": 64}),
    "attention everywhere": ((3, 8, 8), 3, {"attention_resolutions": (8, 4)}),
    "attention nowhere but in the middle": ((3, 8, 8), 0, {"attention_resolutions": ()}),
    "3 levels, narrowing": ((3, 16, 16), 3, {"multipliers": (1, 3, 2), "attention_resolutions": (8,)}),
    "one level": ((3, 8, 8), 0, {"multipliers": (1,), "attention_resolutions": (8,)}),
    "32 groups": ((3, 8, 8), 0, {"channels": 128, "multipliers": (1, 1), "groups": 32, "head_channels": 64}),
}


def model_of(kind="AdaGN and labels", sigma_data=0.4, sigma_min=GRID["sigma_min"], **changes):
    """A model whose every weight matters: none is zero, and the outputs are as large as images, or larger."""
    shape, num_classes, options = NETWORKS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ADM(shape, 0.3, num_classes, **{**TINY, **options, **changes})
        for name, parameter in network.named_parameters():
            wide = (parameter.ndim == 1 or "classes" in name) and "last" not in name
            nn.init.normal_(parameter, std=1.0 if wide else 0.4 if "last" in name else 0.15)
    return ConsistencyModel(network, sigma_data, sigma_min)


def full(recipe=ICT, **options):
    """The paper's network, without memory."""
    with torch.device("meta"):
        return build_network("adm", (3, 64, 64), recipe, 1000, {"embedding_scale": 1000, **options})


def drawn_by_diffusers(folder, num_classes, timesteps=(0,), num=4):
    made = ConsistencyModelPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    made.set_progress_bar_config(disable=True)
    labels = [i % num_classes for i in range(num)] if num_classes else None
    generator = torch.Generator().manual_seed(1)
    steps = {"num_inference_steps": None, "timesteps": list(timesteps)}
    return 2 * made(num, labels, **steps, generator=generator, output_type="pt").images - 1


def drawn_by_us(model, timesteps=(0,), num=4):
    network, grid = model.network, karras_sigmas(1281, **GRID)
    labels = torch.arange(num) % network.classes.num_embeddings if network.classes else None
    levels = [float(grid[1280 - step]) for step in sorted(timesteps)]
    images = sample(model, num, network.shape, levels, torch.Generator().manual_seed(1), labels)
    return images.clamp(-1, 1)


def saved(folder, kind="AdaGN and labels", **changes):
    model = model_of(kind, **changes)
    save_pipeline(folder, model, GRID["sigma_max"], GRID["rho"])
    return model


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A folder to copy, and what its model draws."""
    folder = tmp_path_factory.mktemp("usual")
    return folder, drawn_by_us(saved(folder))


@pytest.fixture
def folder(usual, tmp_path):
    """A folder of the usual model, to be changed."""
    return shutil.copytree(usual[0], tmp_path / "folder")


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# Value from the paper, and from diffusers


@pytest.mark.parametrize(
    ("recipe", "options", "count"),
    [(ICT, {}, 282_168_003), (ICT, {"adaptive_norm": True}, 295_899_267), (ICT_DEEP, {}, 472_767_555)],
)
def test_the_papers_network_fits_one_to_one(recipe, options, count):
    network = full(recipe, **options)
    with torch.device("meta"):
        theirs = UNet2DModel(**unet_config(network))
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in unet_weights(network.state_dict()).items()} == shapes
    assert sum(parameter.numel() for parameter in theirs.parameters()) == count


def test_the_form_is_that_of_the_published_ct_on_imagenet_64():
    """As diffusers' script for the released weights describes it, in the names of blocks that the library has now."""
    published = {
        "sample_size": 64,
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": 3,
        "num_class_embeds": 1000,
        "block_out_channels": [192, 384, 576, 768],
        "attention_head_dim": 64,
        "down_block_types": ["ResnetDownsampleBlock2D"] + 3 * ["AttnDownBlock2D"],
        "up_block_types": 3 * ["AttnUpBlock2D"] + ["ResnetUpsampleBlock2D"],
        "resnet_time_scale_shift": "scale_shift",
    }
    assert unet_config(full(adaptive_norm=True)).items() >= published.items()


@pytest.mark.parametrize(
    ("sigma", "index"), [(0.821, 492), (1.526, 571), (0.661, 466), (0.973, 513), (80.0, 1280), (0.002, 0)]
)
def test_the_papers_second_steps_are_timesteps(sigma, index):
    assert timestep_of(sigma) == 1280 - index


# Invariant: both draw the same images


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_pipeline_draws_the_same_images(tmp_path, kind):
    model = saved(tmp_path, kind)
    for timesteps in ((0,), (800, 0), (1100, 700, 0)):
        ours = drawn_by_us(model, timesteps)
        assert 0.2 < float(ours.std()) < 0.97  # neither dull nor all clipped
        theirs = drawn_by_diffusers(tmp_path, NETWORKS[kind][1], timesteps)
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


def test_nothing_but_json_and_safetensors(usual):
    assert files_in(usual[0]).keys() == {INDEX, UNET, SCHEDULER, WEIGHTS}


def test_channels_last_makes_no_difference(usual, tmp_path):
    model = model_of().to(memory_format=torch.channels_last)
    save_pipeline(tmp_path, model, GRID["sigma_max"], GRID["rho"])
    assert files_in(tmp_path) == files_in(usual[0])


def test_a_folder_is_written_anew_or_stays_as_it_was(folder, monkeypatch):
    before = files_in(folder)

    def breaks_off(self, place, *_):
        (Path(place) / "half.json").touch()
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(ConsistencyModelPipeline, "save_pretrained", breaks_off)
        with pytest.raises(OSError, match="no space left"):
            saved(folder, "plain")
    assert files_in(folder) == before
    saved(folder, "plain")
    assert files_in(folder).keys() == before.keys()
    assert drawn_by_diffusers(folder, 0).isfinite().all()


def test_neither_training_nor_the_command_loads_diffusers():
    code = "import sys, ict_lib.training, ict_lib.export.command; sys.exit(any('diffusers' in m for m in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


# Independent slow reference: diffusers' scheduler, and wrong readings that the comparison above would see


def test_the_schedulers_scalings_are_ours(usual):
    scheduler = CMStochasticIterativeScheduler.from_pretrained(usual[0], subfolder="scheduler")
    for sigma in map(torch.tensor, (0.003, 0.01, 0.5, 7.0, 50.0)):
        skip, out = scheduler.get_scalings_for_boundary_condition(sigma)
        torch.testing.assert_close(skip, c_skip(sigma, 0.4, 0.003))
        torch.testing.assert_close(out, c_out(sigma, 0.4, 0.003))
    scheduler.set_timesteps(timesteps=[800, 0])
    assert float(scheduler.sigmas[0]) == pytest.approx(50)
    first = scheduler.scale_model_input(torch.ones(1), scheduler.timesteps[0])
    torch.testing.assert_close(first, c_in(scheduler.sigmas[:1], 0.4))
    assert float(scheduler.timesteps[1]) == pytest.approx(1000 * torch.log(scheduler.sigmas[1]) / 4)


def swapped(ending, first, second):
    """A change of weights: exchange two of the same shape wherever they stand."""

    def change(state):
        for name in [name for name in state if first in name and name.endswith(ending)]:
            other = name.replace(first, second)
            state[name], state[other] = state[other], state[name]

    return change


def halves_swapped(state):
    for name in [name for name in state if "time_emb_proj" in name]:
        state[name] = torch.cat(state[name].chunk(2)[::-1])


def heads_interleaved(state):
    for name in [name for name in state if ".to_q." in name or ".to_k." in name or ".to_v." in name]:
        state[name] = torch.cat([state[name][i::4] for i in range(4)])


WRONG_WEIGHTS = {
    "queries for keys": swapped("weight", "to_q", "to_k"),
    "keys for values": swapped("weight", "to_k", "to_v"),
    "shift for scale": halves_swapped,
    "heads interleaved": heads_interleaved,
    "first norm for the second": swapped("downsamplers.0.norm1.bias", "norm1", "norm2"),
}
WRONG_WORDS = {
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-1,
    "act_fn": "gelu",
    "attention_head_dim": 32,
    "norm_num_groups": 4,
    "mid_block_scale_factor": 2,
    "center_input_sample": True,
}


@pytest.mark.parametrize("wrong", WRONG_WEIGHTS)
def test_weights_in_the_wrong_places_would_be_noticed(folder, usual, wrong):
    state = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    WRONG_WEIGHTS[wrong](state)
    safetensors.torch.save_file(state, folder / WEIGHTS)
    assert float((drawn_by_diffusers(folder, 3) - usual[1]).abs().max()) > 1e-2


@pytest.mark.parametrize("word", WRONG_WORDS)
def test_a_wrong_word_would_be_noticed(folder, usual, word):
    change_json(folder / UNET, **{word: WRONG_WORDS[word]})
    assert float((drawn_by_diffusers(folder, 3) - usual[1]).abs().max()) > 1e-3


# Errors


@pytest.mark.parametrize("name", ["mlp", "small_unet", "ncsnpp"])
def test_networks_with_another_embedding_are_refused_and_adm_is_named(tmp_path, name):
    options = {} if name == "mlp" else {"channels": 8}
    options |= {"attention_resolutions": [8]} if name == "ncsnpp" else {}
    model = ConsistencyModel(build_network(name, (3, 8, 8), ICT, options=options))
    with pytest.raises(ValueError, match=r"network is '\w+': for diffusers.*adm with the option embedding_scale: 1000"):
        save_pipeline(tmp_path / "new", model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embedding_scale": 1.0}, "embedding_scale is 1.0: for diffusers 1000 is needed"),
        ({"multipliers": (2, 1)}, r"multipliers\[0\] is 2.0: for diffusers.* 1 is needed"),
        (
            {"groups": 32},
            r"groups of the normalisations is \[.*\]: for diffusers one .*the option groups: 8 ",
        ),
        ({"normalise_qk": True}, "normalise_qk is True: for diffusers false"),
        ({"sigma_min": 50.0}, "sigma_max is 50.0: more than sigma_min = 50.0 is needed"),
    ],
)
def test_what_diffusers_cannot_hold_is_refused_with_the_option_that_helps(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        saved(tmp_path / "new", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("channels", "multipliers"), [(32, (1, 3)), (48, (1, 2)), (40, (1, 1)), (60, (1, 2))])
def test_the_option_that_the_refusal_names_does_help(tmp_path, channels, multipliers):
    changes = {"channels": channels, "multipliers": multipliers, "head_channels": 4, "attention_resolutions": ()}
    with pytest.raises(ValueError, match="the option groups: ") as refused:
        saved(tmp_path, **changes, groups=32)
    option = int(str(refused.value).split("groups: ")[1].split()[0])
    assert saved(tmp_path, **changes, groups=option).network.first.out_channels == channels


def test_oblong_images_are_refused(tmp_path):
    network = ADM((3, 8, 16), **TINY)
    with pytest.raises(ValueError, match=r"shape is \(3, 8, 16\): for diffusers' pipeline a square image is needed"):
        save_pipeline(tmp_path, ConsistencyModel(network))


def test_a_lowest_level_at_which_diffusers_gives_nan_is_refused(folder):
    with pytest.raises(ValueError, match=r"sigma_min is 0\.0002: for diffusers"):
        saved(folder, sigma_min=0.0002)
    change_json(folder / SCHEDULER, sigma_min=0.0002)
    assert drawn_by_diffusers(folder, 3, (800, 0)).isnan().any()  # the reason


def test_without_diffusers_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(RuntimeError, match=r"the export needs a package .*-m pip install diffusers"):
        saved(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("sigma", "said"), [(0.001, "sigma is 0.001"), (81.0, "sigma is 81.0"), (float("nan"), "nan")])
def test_a_level_outside_of_the_grid_has_no_timestep(sigma, said):
    with pytest.raises(ValueError, match=said):
        timestep_of(sigma)
