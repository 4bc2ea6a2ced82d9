"""Models as folders of diffusers: `ict_lib.export`. The reference is diffusers, which the library does not use."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from torch import nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

from ict_lib.consistency import ConsistencyModel, c_in, c_out, c_skip
from ict_lib.export import load_pipeline, pipeline, save_pipeline, timestep_of
from ict_lib.export.unet_config import adm_from, unet_config
from ict_lib.export.unet_weights import from_unet, to_unet
from ict_lib.grid import karras_sigmas
from ict_lib.networks.build import build_network
from ict_lib.networks.adm import ADM
from ict_lib.recipe import ICT, ICT_DEEP
from ict_lib.sampling import sample

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
ALL_NETWORKS = pytest.mark.parametrize("kind", NETWORKS)


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


def pipeline_of(folder):
    made = ConsistencyModelPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    made.set_progress_bar_config(disable=True)
    return made


def drawn_by_diffusers(folder, num_classes, timesteps=(0,), num=4):
    made = pipeline_of(folder)
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


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A folder to copy, and its model."""
    folder = tmp_path_factory.mktemp("usual")
    return folder, saved(folder)


@pytest.fixture
def folder(usual, tmp_path):
    """A folder of the usual model, to be changed."""
    return shutil.copytree(usual[0], tmp_path / "folder")


@pytest.fixture
def ours(usual):
    """What the usual model draws."""
    return drawn_by_us(usual[1])


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    path = folder / pipeline.WEIGHTS
    state = safetensors.torch.load(path.read_bytes())
    change(state)
    safetensors.torch.save_file(state, path)


# Value from the paper, and from diffusers


@pytest.mark.parametrize(
    ("recipe", "options", "count"),
    [(ICT, {}, 282_168_003), (ICT, {"adaptive_norm": True}, 295_899_267), (ICT_DEEP, {}, 472_767_555)],
)
def test_the_papers_network_fits_one_to_one(recipe, options, count):
    network = full(recipe, **options)
    with torch.device("meta"):
        theirs = UNet2DModel.from_config(unet_config(network))
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in to_unet(network.state_dict()).items()} == shapes
    assert sum(parameter.numel() for parameter in theirs.parameters()) == count


def test_the_form_is_that_of_the_published_ct_on_imagenet_64():
    """As diffusers' script for the released weights describes it, in the names of blocks that the library has now."""
    assert (
        unet_config(full(adaptive_norm=True)).items()
        >= {
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
        }.items()
    )


@pytest.mark.parametrize(
    ("sigma", "index"), [(0.821, 492), (1.526, 571), (0.661, 466), (0.973, 513), (80.0, 1280), (0.002, 0)]
)
def test_the_papers_second_steps_are_timesteps(sigma, index):
    assert timestep_of(sigma) == 1280 - index


# Invariant: both draw the same images


@ALL_NETWORKS
def test_the_pipeline_draws_the_same_images(tmp_path, kind):
    model = saved(tmp_path, kind)
    for timesteps in ((0,), (800, 0), (1100, 700, 0)):
        ours = drawn_by_us(model, timesteps)
        assert 0.2 < float(ours.std()) < 0.97  # neither dull nor all clipped
        theirs = drawn_by_diffusers(tmp_path, NETWORKS[kind][1], timesteps)
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


@ALL_NETWORKS
def test_what_is_read_back_is_the_model_bit_for_bit(tmp_path, kind):
    model, again = saved(tmp_path / "a", kind), tmp_path / "b"
    read = load_pipeline(tmp_path / "a")
    assert torch.equal(drawn_by_us(read, (800, 0)), drawn_by_us(model, (800, 0)))
    assert (read.sigma_data, read.sigma_min) == (model.sigma_data, model.sigma_min)
    save_pipeline(again, read, GRID["sigma_max"], GRID["rho"])
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (again / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.mark.parametrize("kind", ["plain", "AdaGN and labels"])
def test_a_folder_that_diffusers_wrote_is_read(tmp_path, kind):
    model = saved(tmp_path / "ours", kind)
    pipeline_of(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert torch.equal(drawn_by_us(load_pipeline(tmp_path / "theirs")), drawn_by_us(model))


def test_nothing_but_json_and_safetensors_and_the_index_last(tmp_path, monkeypatch):
    written, real = [], pipeline.write_atomically
    monkeypatch.setattr(pipeline, "write_atomically", lambda path, content: (written.append(path), real(path, content)))
    saved(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "model_index.json",
    ]
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())


def test_neither_export_nor_training_loads_diffusers():
    code = "import sys, ict_lib.training, ict_lib.export.__main__; sys.exit(any('diffusers' in m for m in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


# Independent slow reference: diffusers' scheduler, and wrong readings that the comparison above would see


def test_the_schedulers_scalings_are_ours(folder):
    scheduler = CMStochasticIterativeScheduler.from_pretrained(folder, subfolder="scheduler")
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
def test_weights_in_the_wrong_places_would_be_noticed(folder, ours, wrong):
    change_weights(folder, WRONG_WEIGHTS[wrong])
    assert float((drawn_by_diffusers(folder, 3) - ours).abs().max()) > 1e-2


@pytest.mark.parametrize("word", WRONG_WORDS)
def test_a_wrong_word_changes_the_images_and_is_refused_or_obeyed(folder, ours, word):
    change_json(folder / pipeline.UNET, **{word: WRONG_WORDS[word]})
    theirs = drawn_by_diffusers(folder, 3)
    assert float((theirs - ours).abs().max()) > 1e-3
    if word == "attention_head_dim":  # a word that our network has too
        torch.testing.assert_close(theirs, drawn_by_us(load_pipeline(folder)), rtol=0, atol=1e-4)
    else:
        with pytest.raises(ValueError, match=rf"{word} is .*: .* is needed"):
            load_pipeline(folder)


# Shapes and dtypes


@ALL_NETWORKS
def test_description_and_names_lead_back(kind):
    network = model_of(kind).network
    read = adm_from(json.loads(json.dumps(unet_config(network))))
    assert {p.device.type for p in read.parameters()} == {"meta"}
    assert unet_config(read) == unet_config(network)
    state = from_unet(to_unet(network.state_dict()), read)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert state.keys() == read.state_dict().keys()


def test_half_precision_is_read_as_float32(folder):
    change_weights(folder, lambda state: state.update({name: value.half() for name, value in state.items()}))
    read = load_pipeline(folder)
    assert {parameter.dtype for parameter in read.parameters()} == {torch.float32}
    assert drawn_by_us(read).dtype == torch.float32


def test_what_was_read_can_be_trained_and_moved(folder):
    read = load_pipeline(folder)
    read(torch.randn(2, 3, 8, 8), 1.0, torch.tensor([0, 1])).sum().backward()
    assert all(parameter.grad is not None for parameter in read.parameters())
    shutil.rmtree(folder)
    assert torch.isfinite(drawn_by_us(read.double().float())).all()


# Errors


@pytest.mark.parametrize("name", ["mlp", "small_unet", "ncsnpp"])
def test_networks_with_another_embedding_are_refused_and_adm_is_named(tmp_path, name):
    options = {} if name == "mlp" else {"channels": 8}
    options |= {"attention_resolutions": [8]} if name == "ncsnpp" else {}
    model = ConsistencyModel(build_network(name, (3, 8, 8), ICT, options=options))
    with pytest.raises(ValueError, match=r"network is \w+: diffusers.*adm with the option embedding_scale: 1000"):
        save_pipeline(tmp_path, model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embedding_scale": 1.0}, "embedding_scale is 1.0: diffusers multiplies by 1000"),
        ({"multipliers": (2, 1)}, r"multipliers\[0\] is 2.0: for diffusers.* 1 is needed"),
        ({"groups": 32}, r"have .* groups, and diffusers knows one .* the option groups: 8 would give it"),
    ],
)
def test_what_diffusers_cannot_hold_is_refused_with_the_option_that_helps(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        saved(tmp_path, **changes)


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
    change_json(folder / pipeline.SCHEDULER, sigma_min=0.0002)
    assert drawn_by_diffusers(folder, 3, (800, 0)).isnan().any()  # the reason


@pytest.mark.parametrize(("sigma", "said"), [(0.001, "sigma is 0.001"), (81.0, "sigma is 81.0"), (float("nan"), "nan")])
def test_a_level_outside_of_the_grid_has_no_timestep(sigma, said):
    with pytest.raises(ValueError, match=said):
        timestep_of(sigma)


@pytest.mark.parametrize("name", [pipeline.INDEX, pipeline.UNET, pipeline.SCHEDULER, pipeline.WEIGHTS])
def test_a_missing_or_damaged_file_is_named(folder, name):
    path = folder / name
    whole = path.read_bytes()
    for damage in (whole[:-5], whole[:3], b"", b"\xff" + whole, whole[: len(whole) // 2]):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=f"{path.name} is damaged"):
            load_pipeline(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path.name} is missing: a folder of diffusers'"):
        load_pipeline(folder)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (pipeline.INDEX, {"_class_name": "DDPMPipeline"}, "'DDPMPipeline': 'ConsistencyModelPipeline' is needed"),
        (pipeline.UNET, {"_class_name": "UNet1DModel"}, "'UNet1DModel': 'UNet2DModel' is needed"),
        (pipeline.UNET, {"sample_size": None}, "sample_size is None: a positive whole number"),
        (pipeline.UNET, {"sample_size": [8, 8]}, r"sample_size is \[8, 8\]: a positive whole number"),
        (pipeline.UNET, {"sample_size": 7}, r"shape is \(3, 7, 7\)"),
        (pipeline.UNET, {"layers_per_block": True}, "layers_per_block is True"),
        (pipeline.UNET, {"num_class_embeds": "3"}, "num_class_embeds is '3': null or a positive whole number"),
        (pipeline.UNET, {"num_class_embeds": None}, "class_embedding.weight.*no such weight is needed"),
        (pipeline.UNET, {"block_out_channels": [64, 32]}, "whole multiples of its first"),
        (pipeline.UNET, {"block_out_channels": []}, "whole multiples of its first"),
        (pipeline.UNET, {"block_out_channels": [32, 96]}, "weights do not fit the network, such as"),
        (pipeline.UNET, {"down_block_types": ["AttnDownBlock2D"]}, "down_block_types is .*: a list of 2 names"),
        (pipeline.UNET, {"down_block_types": 2 * ["DownBlock2D"]}, r"down_block_types is .*\(else it is no ADM\)"),
        (pipeline.UNET, {"downsample_type": "conv"}, "downsample_type is 'conv': 'resnet'"),
        (pipeline.UNET, {"time_embedding_type": "fourier"}, "time_embedding_type is 'fourier': 'positional'"),
        (pipeline.UNET, {"resnet_time_scale_shift": "default"}, "weights do not fit the network"),
        (pipeline.UNET, {"class_embed_type": "identity"}, "class_embed_type is 'identity': None"),
        (pipeline.SCHEDULER, {"_class_name": "DDIMScheduler"}, "'DDIMScheduler': 'CMStochasticIterativeScheduler'"),
        (pipeline.SCHEDULER, {"sigma_min": float("nan")}, "sigma_min is nan: a positive number is needed"),
        (pipeline.SCHEDULER, {"sigma_data": 0}, "sigma_data is 0: a positive number is needed"),
        (pipeline.SCHEDULER, {"sigma_data": None}, "sigma_data is None: a positive number is needed"),
    ],
)
def test_foreign_folders_are_refused_with_what_is_needed(folder, name, changes, said):
    change_json(folder / name, **changes)
    with pytest.raises(ValueError, match=said):
        load_pipeline(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("conv_in.weight"), r"'conv_in.weight': its shape is missing, \(32, 3, 3, 3\)"),
        (lambda state: state.update(more=torch.zeros(2)), r"'more': its shape is \(2,\), no such weight is needed"),
        (lambda state: state.update({"conv_in.bias": torch.zeros(3)}), r"'conv_in.bias': its shape is \(3,\), \(32,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, said):
    change_weights(folder, change)
    with pytest.raises(ValueError, match=f"1 weights do not fit the network, such as {said}"):
        load_pipeline(folder)


def test_a_list_is_no_description(folder):
    (folder / pipeline.INDEX).write_text("[]")
    with pytest.raises(ValueError, match="describes None: 'ConsistencyModelPipeline' is needed"):
        load_pipeline(folder)
