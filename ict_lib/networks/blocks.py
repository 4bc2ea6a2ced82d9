"""What the U-Nets are made of: residual block, self-attention, group normalisation."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ict_lib.checks import require
from ict_lib.techniques.dropout import Dropout

Norm = Callable[[int], nn.Module]  # makes a normalisation, given its channels
convolution = partial(nn.Conv2d, kernel_size=3, padding=1)


def group_norm(channels: int, most: int = 32, eps: float = 1e-5) -> nn.GroupNorm:
    """Make as many groups as divide the channels, 4 or more: at most ``most``, each of four channels or more.

    A group of one channel would subtract the noise embedding again.

    Source: own; 32 groups in [score SDE], where ``eps`` is 1e-6, and in [ADM], where it is 1e-5.
    """
    groups = next(n for n in range(min(most, channels // 4), 0, -1) if channels % n == 0)
    return GroupNorm(groups, channels, eps)


class GroupNorm(nn.GroupNorm):
    """torch's normalisation; compiled it is written out along the channels, so that those may stay side by side.

    Of torch's own on CUDA the result has the channels of a position far apart, which costs a copy before and after.
    """

    def forward(self, h: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to the same, float32 or better where it is compiled."""
        if not torch.compiler.is_compiling():
            return super().forward(h)
        parts = full(h).permute(0, 2, 3, 1).unflatten(3, (self.num_groups, -1))  # [batch, height, width, group, part]
        variance, mean = torch.var_mean(parts, dim=(1, 2, 4), correction=0, keepdim=True)
        normed = ((parts - mean) * (variance + self.eps).rsqrt()).flatten(3)
        return (normed * self.weight + self.bias).permute(0, 3, 1, 2)


def zeroed(layer: nn.Module) -> nn.Module:
    """Let a layer start at zero; changed in place.

    Source: [DDPM] arXiv:2006.11239.
    """
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def full(h: Tensor) -> Tensor:
    """Give numbers 32 bits, or leave them their 64."""
    return h.to(torch.promote_types(h.dtype, torch.float32))


class InFull(nn.Module):
    """Before a kind of layer: lets it compute in 32 bits also where the rest of a network has 16.

    From one of 1,281 noise levels to the next a feature of the embedding changes by less than 16 bits hold; rounded,
    student and teacher would be told the same level. The first layer sees the image and the last makes one.
    """

    def forward(self, h: Tensor) -> Tensor:
        """Map as the layer does, to float32 or better."""
        kind = h.device.type
        with torch.autocast(kind if torch.amp.is_autocast_available(kind) else "cpu", enabled=False):  # not on "meta"
            return super().forward(full(h))


class Unrounded(InFull, nn.Linear):
    """A linear layer in 32 bits."""


class UnroundedConv(InFull, nn.Conv2d):
    """A convolution in 32 bits."""


class ResidualBlock(nn.Module):
    r"""Norm, SiLU, convolution, told the noise level, norm, SiLU, dropout, convolution, added to the input.

    .. math:: h \leftarrow g \, \bigl( \mathrm{shortcut}(h) + \mathrm{leave}(\mathrm{enter}(h) + W e) \bigr)

    Where ``resample`` is given, both branches change resolution: the inner one between SiLU and convolution. With
    ``adaptive`` (AdaGN), e scales and shifts what the second norm gives: (1 + scale) norm + shift. The last
    convolution starts at zero.

    Source: [ADM] arXiv:2105.05233, where the resampling is that of BigGAN; with gain and ``project`` [score SDE]
    arXiv:2011.13456.

    Args:
        inputs: channels in.
        outputs: channels out.
        emb: channels of the embedding e.
        dropout: rate.
        head_channels: of each head of the self-attention that follows; 0 for no attention.
        resample: halves or doubles the resolution; has no parameters.
        adaptive: the embedding scales and shifts (AdaGN) instead of being added.
        project: put a 1x1 convolution into the shortcut even where the channels agree.
        gain: g, here and in the attention; a half's root keeps the variance of a sum.
        norm: makes a normalisation, given its channels.
        normalise_qk: in the attention.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        emb: int,
        dropout: float,
        head_channels: int = 0,
        resample: nn.Module | None = None,
        adaptive: bool = False,
        project: bool = False,
        gain: float = 1.0,
        norm: Norm = group_norm,
        normalise_qk: bool = False,
    ):
        super().__init__()
        between = [resample] if resample else []
        self.enter = nn.Sequential(norm(inputs), nn.SiLU(), *between, convolution(inputs, outputs))
        self.condition = Unrounded(emb, 2 * outputs if adaptive else outputs)
        last = zeroed(convolution(outputs, outputs))
        self.leave = nn.Sequential(norm(outputs), nn.SiLU(), Dropout(dropout), last)
        match = nn.Conv2d(inputs, outputs, 1) if project or inputs != outputs else nn.Identity()
        self.shortcut = nn.Sequential(resample, match) if resample else match
        attention = partial(Attention, outputs, head_channels, gain, norm, normalise_qk)
        self.attention = attention() if head_channels else nn.Identity()
        self.adaptive, self.gain = adaptive, gain

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """Map ``[batch, inputs, height, width]`` and ``[batch, emb]`` to ``[batch, outputs, height', width']``."""
        inner, told = self.enter(h), self.condition(emb)[:, :, None, None]  # told: [batch, outputs or twice, 1, 1]
        if self.adaptive:
            scale, shift = told.chunk(2, dim=1)
            norm, silu, dropout, last = self.leave
            inner = last(dropout(silu(norm(inner) * (1 + scale) + shift)))
        else:
            inner = self.leave(inner + told)
        return self.attention(self.gain * (self.shortcut(h) + inner))


class Attention(nn.Module):
    """Self-attention over the positions, added to the input; its last layer starts at zero.

    Source: [DDPM] arXiv:2006.11239; with heads [ADM] arXiv:2105.05233.

    Args:
        channels: in and out.
        head_channels: of one head.
        gain: multiplies the sum.
        norm: makes a normalisation, given its channels.
        normalise_qk: divide each query and key by the root of its mean square, so that no logit exceeds the root of
            ``head_channels``.

    Raises:
        ValueError: if ``head_channels`` does not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int,
        gain: float = 1.0,
        norm: Norm = group_norm,
        normalise_qk: bool = False,
    ):
        super().__init__()
        divides = head_channels > 0 and channels % head_channels == 0
        require(divides, "head_channels", head_channels, f"a divisor of the {channels} channels")
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.leave = zeroed(nn.Conv2d(channels, channels, 1))
        self.head_channels, self.gain, self.normalise_qk = head_channels, gain, normalise_qk

    def forward(self, h: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to the same."""
        qkv = self.qkv(self.norm(h)).flatten(2).mT  # [batch, position, 3 * channel]
        heads = qkv.unflatten(2, (3, -1, self.head_channels)).permute(2, 0, 3, 1, 4)
        q, k, v = heads  # each [batch, head, position, head_channels]
        if self.normalise_qk:
            q, k = (F.rms_norm(full(part), part.shape[-1:], eps=1e-6).to(v.dtype) for part in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [batch, position, channel]
        return self.gain * (h + self.leave(mixed.mT.reshape(h.shape)))
