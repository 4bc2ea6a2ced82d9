"""The pieces of the U-Nets once more, from the papers and in numpy: convolution by taps, resampling, attention, blocks.

``w`` is a network's ``state_dict`` as float64 arrays; ``key`` is the name of a layer or block in it.
"""

import math

import numpy as np


def weights_of(network):
    return {key: value.detach().double().numpy() for key, value in network.state_dict().items()}


def silu(x):
    return x / (1 + np.exp(-x))


def linear(w, key, x):
    return x @ w[f"{key}.weight"].T + w[f"{key}.bias"]


def conv(w, key, x, stride=1, padding=None):
    weight = w[f"{key}.weight"]
    size = weight.shape[-1]
    padding = size // 2 if padding is None else padding
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    height, width = ((n - size) // stride + 1 for n in x.shape[2:])
    out = np.zeros((len(x), len(weight), height, width))
    for i in range(size):
        for j in range(size):
            seen = x[:, :, i : i + stride * height : stride, j : j + stride * width : stride]
            out += np.einsum("oc,bchw->bohw", weight[:, :, i, j], seen)
    return out + w[f"{key}.bias"][:, None, None]


def group_norm(w, key, x, groups, eps=1e-5):
    rows = x.reshape(len(x), groups, -1)
    rows = (rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + eps)
    return rows.reshape(x.shape) * w[f"{key}.weight"][:, None, None] + w[f"{key}.bias"][:, None, None]


def upfirdn(x, taps, up, down, pad):
    """Zeros between the positions, zeros around, the filter by taps, every ``down``-th position; along both sides."""
    for axis in (2, 3):
        x = np.moveaxis(x, axis, -1)
        spread = np.zeros((*x.shape[:-1], up * x.shape[-1]))
        spread[..., ::up] = x
        spread = np.pad(spread, [(0, 0)] * 3 + [pad])
        length = spread.shape[-1] - len(taps) + 1
        x = sum(tap * spread[..., i : i + length] for i, tap in enumerate(reversed(taps)))[..., ::down]
        x = np.moveaxis(x, -1, axis)
    return x


def fir_down(x):
    return upfirdn(x, [1 / 8, 3 / 8, 3 / 8, 1 / 8], 1, 2, (1, 1))


def fir_up(x):
    return upfirdn(x, [2 / 8, 6 / 8, 6 / 8, 2 / 8], 2, 1, (2, 1))


def fir_conv_down(w, key, x):
    return conv(w, f"{key}.convolve", upfirdn(x, [1 / 8, 3 / 8, 3 / 8, 1 / 8], 1, 1, (2, 2)), 2, 0)


def average_down(x):
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def nearest_up(x):
    return x.repeat(2, 2).repeat(2, 3)


def of_length(rows):
    """Divide each column of [channel, position] by the root of its mean square."""
    return rows / np.sqrt((rows**2).mean(0))


def attention(w, key, x, head_channels, gain=1.0, eps=1e-5, normalise_qk=False):
    """One sample, one head and one position after another."""
    batch, channels, height, width = x.shape
    normed = group_norm(w, f"{key}.norm", x, min(channels // 4, 32), eps)
    q, k, v = np.split(conv(w, f"{key}.qkv", normed), 3, 1)
    mixed = np.zeros((batch, channels, height * width))
    for b in range(batch):
        for start in range(0, channels, head_channels):
            head = slice(start, start + head_channels)
            query, key_, value = (a[b, head].reshape(head_channels, -1) for a in (q, k, v))
            query, key_ = (of_length(query), of_length(key_)) if normalise_qk else (query, key_)
            for position in range(height * width):
                score = query[:, position] @ key_ / math.sqrt(head_channels)
                share = np.exp(score - score.max())
                mixed[b, head, position] = value @ (share / share.sum())
    return gain * (x + conv(w, f"{key}.leave", mixed.reshape(x.shape)))


def residual_block(w, key, x, emb, head_channels=0, resample=None, gain=1.0, adaptive=False, eps=1e-5):
    """``emb`` is what the block is told, after its SiLU; attention where ``head_channels`` says so."""
    first, last = ("3", "1") if resample else ("2", "")
    h = silu(group_norm(w, f"{key}.enter.0", x, min(x.shape[1] // 4, 32), eps))
    h, x = (resample(h), resample(x)) if resample else (h, x)
    h = conv(w, f"{key}.enter.{first}", h)
    told = linear(w, f"{key}.condition", emb)[:, :, None, None]
    groups = min(h.shape[1] // 4, 32)
    if adaptive:
        scale, shift = np.split(told, 2, 1)
        h = group_norm(w, f"{key}.leave.0", h, groups, eps) * (1 + scale) + shift
    else:
        h = group_norm(w, f"{key}.leave.0", h + told, groups, eps)
    h = conv(w, f"{key}.leave.3", silu(h))
    shortcut = f"{key}.shortcut.{last}".rstrip(".")
    h = gain * ((conv(w, shortcut, x) if f"{shortcut}.weight" in w else x) + h)
    return attention(w, f"{key}.attention", h, head_channels, gain, eps) if head_channels else h
