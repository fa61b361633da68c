"""`MultiCrop` for a whole batch at once on a GPU, where all pictures lie in its memory.

The draws are other ones than `MultiCrop`'s, their distributions the same but for: crops are cut by interpolation
without antialiasing, colour jitter takes one random order for a batch, and what goes through a small size or through
JPEG is a fixed share of a batch at a few sizes. Pictures are `(N, 3, S, S)` uint8, views `(B, h, w, 3)` uint8.
"""

import math
import pathlib
import sys

import torch
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from gpu_jpeg import through_jpeg
from gpu_pixels import between, blurred, chosen, jittered, luma, recoloured, shrunk, stroked


class Pictures:
    """Pictures on a device, and what views ask about them.

    Args:
        pixels: `(N, 3, S, S)` uint8 tensor on its device.
        groups: The group of each as `(N,)` whole numbers on the processor, −1 for none; or None.
    """

    def __init__(self, pixels, groups=None):
        self.pixels = pixels
        self.grey = torch.cat(
            [
                ((part[:, 0] == part[:, 1]) & (part[:, 1] == part[:, 2])).flatten(1).all(1)
                for part in pixels.split(8192)
            ]
        )
        corners = (
            pixels[:, :, :: pixels.shape[2] - 1, :: pixels.shape[3] - 1].flatten(2).float().sort(2).values
        )
        self.ground = corners[:, :, 1:3].mean(2).floor()
        self.partners = None if groups is None else _partners(groups, pixels.device)

    def __len__(self):
        return len(self.pixels)

    def partner(self, index, probability):
        """Of each picture another one of its group, with a probability, where there is one; else itself."""
        if self.partners is None:
            return index
        order, place, start, size = self.partners
        others = size[index] - 1
        drawn = (torch.rand(len(index), device=index.device) * others.clamp(min=1)).long() + start[index]
        drawn = drawn + (drawn >= place[index])
        found = order[drawn.clamp(max=len(order) - 1)]
        taken = (others > 0) & (torch.rand(len(index), device=index.device) < probability)
        return torch.where(taken, found, index)


def _partners(groups, device):
    groups = torch.as_tensor(groups)
    order = groups.argsort(stable=True)
    _, inverse, counts = groups.unique(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    size = torch.where(groups < 0, 1, counts[inverse])
    return tuple(x.to(device) for x in (order, place, first[inverse], size))


class DeviceViews:
    """Views of a `MultiCrop` recipe.

    Args:
        recipe: The `MultiCrop`.
        pictures: `Pictures`.
        pairs: How often the views after global view 1 are of another picture of the group.
    """

    def __init__(self, recipe, pictures, pairs=0.0):
        self.recipe, self.pictures, self.pairs = recipe, pictures, pairs

    @property
    def sizes_vary(self):
        """Whether sizes are drawn on the processor, which a CUDA graph of the views would keep as they are."""
        return bool(self.recipe.small or self.recipe.jpeg)

    def __call__(self, index):
        """The V views of pictures `index` `(B,)`: a list of `(B, h, w, 3)` uint8."""
        r, other = self.recipe, self.pictures.partner(index, self.pairs)
        views = self._sized([index, other], r.global_size, r.global_scale, (0, 1))
        if r.local_views:
            views += self._sized([other] * r.local_views, r.local_size, r.local_scale, (2,) * r.local_views)
        return views

    def _sized(self, indices, size, scale, places):
        r, index = self.recipe, torch.cat(indices)
        x = self.pictures.pixels[index].float()
        n, device = len(x), x.device
        if r.stroke:
            x = stroked(x, r.stroke)
        ground = self.pictures.ground[index]
        x = self._cut(x, ground, size, scale)
        if r.jitter:
            x = torch.where(
                chosen(n, r.jitter, device)[:, None, None, None], jittered(x, *r.jitter_strength), x
            )
        if r.grey:
            x = torch.where(chosen(n, r.grey, device)[:, None, None, None], luma(x).expand_as(x), x)
        chances = torch.cat(
            [
                torch.full((len(i),), r.blur[place], device=device)
                for i, place in zip(indices, places, strict=True)
            ]
        )
        if any(r.blur):
            sigma = between(n, *r.blur_sigma, device)
            x = torch.where(
                (torch.rand(n, device=device) < chances)[:, None, None, None], blurred(x, sigma), x
            )
        if r.solarize and 1 in places:
            second = torch.cat(
                [
                    torch.full((len(i),), float(place == 1), device=device)
                    for i, place in zip(indices, places, strict=True)
                ]
            )
            x = torch.where(
                (torch.rand(n, device=device) < r.solarize * second)[:, None, None, None],
                torch.where(x >= 128, 255 - x, x),
                x,
            )
        if r.recolour:
            taken = chosen(n, r.recolour, device) & self.pictures.grey[index]
            x = torch.where(taken[:, None, None, None], recoloured(x), x)
        if r.invert:
            x = torch.where(chosen(n, r.invert, device)[:, None, None, None], 255 - x, x)
        if r.small:
            x = shrunk(x, r.small, r.small_share)
        if r.jpeg:
            rows = torch.randperm(n, device=device)[: round(r.jpeg * n)]
            x = x.index_copy(0, rows, through_jpeg(x[rows], between(len(rows), *r.jpeg_quality, device)))
        x = x.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return list(x.split([len(i) for i in indices]))

    def _cut(self, x, ground, size, scale):
        """Padding, crop, turn and flip as one interpolation."""
        r, n, device = self.recipe, len(x), x.device
        added = torch.zeros(n, device=device)
        if r.pad:
            added = torch.where(chosen(n, r.pad, device), between(n, *r.pad_share, device), added)
        canvas = 1 + added  # in units of the picture's side, which lies at `left`, `top` in it
        left, top = torch.rand(2, n, device=device) * added
        area = between(n, *scale, device) * canvas**2
        aspect = torch.exp(between(n, math.log(3 / 4), math.log(4 / 3), device))
        width, height = (area * aspect).sqrt().minimum(canvas), (area / aspect).sqrt().minimum(canvas)
        centre_x = width / 2 + torch.rand(n, device=device) * (canvas - width) - left
        centre_y = height / 2 + torch.rand(n, device=device) * (canvas - height) - top
        turn = between(n, -r.rotate, r.rotate, device) * math.pi / 180
        mirror = torch.where(chosen(n, r.flip, device), -1.0, 1.0)
        cos, sin = turn.cos(), turn.sin()
        # Output pixel (u, v) in −1 … 1 → picture coordinates in −1 … 1.
        matrix = torch.stack(
            [
                torch.stack([width * cos * mirror, -height * sin, 2 * centre_x - 1], 1),
                torch.stack([width * sin * mirror, height * cos, 2 * centre_y - 1], 1),
            ],
            1,
        )
        grid = functional.affine_grid(matrix, (n, 3, size, size), align_corners=False)
        if r.pad or r.rotate:
            ground = ground[:, :, None, None]
            cut = functional.grid_sample(x - ground, grid, "bicubic", "zeros", align_corners=False) + ground
        else:
            cut = functional.grid_sample(x, grid, "bicubic", "border", align_corners=False)
        return cut.round().clamp(0, 255)
