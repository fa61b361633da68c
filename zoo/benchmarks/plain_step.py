"""A training step as one writes it in plain PyTorch: ViT, head, dense loss, AdamW, teacher, memory.

It stands beside `MaSSL` in the benchmark of the step. Nothing in it is slow on purpose: attention is torch's fused
one, and linear layers are `nn.Linear`.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, dim, heads, drop_path):
        super().__init__()
        self.heads, self.drop_path = heads, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def _drop(self, x):
        if not self.training or not self.drop_path:
            return x
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
        return x * kept / (1 - self.drop_path)

    def forward(self, x):
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(batch, tokens, dim)
        x = x + self._drop(self.proj(attended))
        return x + self._drop(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


class ViT(nn.Module):
    """Images `(B, 3, H, W)` → CLS `(B, embed_dim)`; the settings are those of `memssl_keras.ViT`."""

    def __init__(self, embed_dim, depth, num_heads, patch_size, image_size, drop_path=0.0):
        super().__init__()
        self.grid = image_size // patch_size
        self.patch_embed = nn.Conv2d(3, embed_dim, patch_size, patch_size)
        self.cls = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, self.grid**2 + 1, embed_dim) * 0.02)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, 1e-6)

    def forward(self, images):
        x = self.patch_embed(images)
        batch, dim, height, width = x.shape
        grid = self.positions[:, 1:].view(1, self.grid, self.grid, dim).permute(0, 3, 1, 2)
        if (height, width) != (self.grid, self.grid):
            grid = F.interpolate(grid, (height, width), mode="bicubic")
        x = (x + grid).flatten(2).transpose(1, 2)
        x = torch.cat([(self.cls + self.positions[:, :1]).expand(batch, -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


class Head(nn.Sequential):
    """Features `(B, D)` → unit vectors."""

    def __init__(self, dim, hidden, out):
        linear = nn.Linear(dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out)
        super().__init__(linear[0], nn.GELU(), linear[1], nn.GELU(), linear[2])

    def forward(self, features):
        return F.normalize(super().forward(features), dim=1, eps=1e-6)


def groups_of_decay(model, weight_decay):
    """Parameter groups for `torch.optim.AdamW`: what has one dimension does not decay."""
    weights = list(model.parameters())
    return [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": weight_decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]


def clip_each(model, limit):
    """Clip the gradient of each parameter by its own norm."""
    for weight in model.parameters():
        nn.utils.clip_grad_norm_([weight], limit)
