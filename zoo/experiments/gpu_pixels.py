"""What views are made with, for a whole batch at once: colour, blur, strokes and sizes of `(B, 3, h, w)` in 0 … 255."""

import torch
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)


def between(count, low, high, device):
    return low + (high - low) * torch.rand(count, device=device)


def chosen(count, probability, device):
    return torch.rand(count, device=device) < probability


def luma(x):
    red, green, blue = x.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def stroked(x, probability):
    """Lines thicker or thinner by 2 or 3 px of 64."""
    n, device = len(x), x.device
    three = chosen(n, 0.4, device)[:, None, None, None]
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")

    def widest(y):
        return torch.where(three, functional.max_pool2d(y, 3, 1), functional.max_pool2d(y[..., 1:, 1:], 2, 1))

    changed = torch.where(chosen(n, 0.5, device)[:, None, None, None], widest(padded), -widest(-padded))
    return torch.where(chosen(n, probability, device)[:, None, None, None], changed, x)


def jittered(x, brightness, contrast, saturation, hue):
    n, device = len(x), x.device

    def factor(strength):
        return between(n, 1 - strength, 1 + strength, device)[:, None, None, None]

    def light(x):
        return x * factor(brightness)

    def contrasted(x):
        mean = luma(x).mean((1, 2, 3), keepdim=True)
        return mean + (x - mean) * factor(contrast)

    def saturated(x):
        grey = luma(x)
        return grey + (x - grey) * factor(saturation)

    def turned(x):
        return hue_turned(x, between(n, -hue, hue, device))

    steps = [light, contrasted, saturated, turned]
    for i in torch.randperm(4).tolist():
        x = steps[i](x).clamp(0, 255)
    return x


def hue_turned(x, turn):
    """Hue of `(B, 3, h, w)` in 0 … 255 turned by a share of the circle, by way of HSV."""
    red, green, blue = x.unbind(1)
    top, bottom = x.amax(1), x.amin(1)
    spread = top - bottom
    safe = spread.clamp(min=1e-3)
    hue = torch.where(
        top == red,
        (green - blue) / safe,
        torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = (hue + 6 * turn[:, None, None]) % 6
    channels = []
    for shift in (5, 3, 1):
        k = (shift + hue) % 6
        channels.append(top - spread * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


def blurred(x, sigma, reach=5):
    """Gaussian blur by a standard deviation for each picture, in pixels."""
    offsets = torch.arange(-reach, reach + 1, device=x.device)
    weights = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    weights = weights / weights.sum(1, keepdim=True)
    for axis in (2, 3):
        padding = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        padded, length = functional.pad(x, padding, mode="replicate"), x.shape[axis]
        x = sum(
            padded.narrow(axis, i, length) * weights[:, i, None, None, None] for i in range(2 * reach + 1)
        )
    return x


def recoloured(x, contrast=64.0, draws=8):
    """Two random colours for black and white, at least `contrast` of luma apart."""
    n, device = len(x), x.device
    ends = torch.rand(n, draws, 2, 3, device=device) * 255
    weights = torch.stack([torch.full((), value, device=device) for value in LUMA])
    apart = ((ends[:, :, 0] - ends[:, :, 1]) @ weights).abs() >= contrast
    first = apart.int().argmax(1)
    ends = ends.gather(1, first[:, None, None, None].expand(-1, 1, 2, 3))[:, 0]
    ink, paper = (ends[:, i, :, None, None] for i in range(2))
    changed = ink + (paper - ink) * x[:, :1] / 255
    return torch.where(apart.any(1)[:, None, None, None], changed, x)


def shrunk(x, probability, share, sizes=8):
    """A share of the pictures drawn smaller, at a few sizes, and scaled up again in one of three ways."""
    n, side = len(x), x.shape[-1]
    rows = torch.randperm(n, device=x.device)[: round(probability * n)]
    for part in rows.tensor_split(sizes):
        small = max(1, round(side * (share[0] + (share[1] - share[0]) * torch.rand(()).item())))
        mode = ("nearest", "bilinear", "bicubic")[int(torch.randint(3, ()).item())]
        reduced = functional.interpolate(x[part], (small, small), mode="bilinear", antialias=True).round()
        grown = functional.interpolate(
            reduced, (side, side), mode=mode, **({} if mode == "nearest" else {"align_corners": False})
        )
        x = x.index_copy(0, part, grown.clamp(0, 255))
    return x
