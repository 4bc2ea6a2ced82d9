"""The network of LPIPS: VGG16's features of two images, compared place by place; its weights are files.

The environment variable ``ICT_VGG16`` may name a copy of VGG16's. For the errors about them see
:func:`~ict_lib.data.cache.published_file`.
"""

import functools
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ict_lib.data.cache import published_file

VGG16 = "https://download.pytorch.org/models/vgg16-397923af.pth"  # torchvision's, which takes a second to import


def perceptual(x: Tensor, y: Tensor) -> Tensor:
    """Map images in [-1, 1], ``[batch, 3, height, width]``, to distances ``[batch, 1, 1, 1]``."""
    return perceptual_network(x.device)(x, y)


@functools.cache
def perceptual_network(device: torch.device) -> nn.Module:
    r"""Build the network of the ``lpips`` package, with VGG16's weights from a file; frozen, float32, once a device.

    .. math:: d(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{h, w} w_l^T
        \Bigl( \frac{\phi_l(x)_{hw}}{\lVert \phi_l(x)_{hw} \rVert} -
        \frac{\phi_l(y)_{hw}}{\lVert \phi_l(y)_{hw} \rVert} \Bigr)^2

    over five layers of features; the weights w, version 0.1, come with the package. A RuntimeError if that is missing.

    Source: Zhang et al. 2018, arXiv:1801.03924.
    """
    try:
        from lpips import LPIPS  # 2 s to import: only for those who ask for this distance
    except ImportError as error:
        raise RuntimeError(f"LPIPS needs a package ({error}): {sys.executable} -m pip install lpips") from None
    state = torch.load(vgg16_weights(), map_location="cpu", weights_only=True)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about arguments that the package gives it
        network = LPIPS(net="vgg", pnet_rand=True, verbose=False)  # random: the package would download
    for stage in network.net.children():  # its layers have the names that they have in VGG16
        stage.load_state_dict({name: state[f"features.{name}"] for name in stage.state_dict()})
    return network.to(device, torch.float32).eval().requires_grad_(False)


def vgg16_weights(download: bool = True) -> Path:
    """Find VGG16's weights where :func:`~ict_lib.data.cache.published_file` looks, or download torchvision's."""
    return published_file(VGG16, "ICT_VGG16", download=download)
