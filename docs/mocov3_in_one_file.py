"""MoCo v3 with a vision transformer, whole, in plain PyTorch: arXiv 2104.02057, algorithm 1 and section 5.

To read, and to hold in one's head: one process, no checkpoints, no monitors. A test proves it equal to mocox's MoCoV3,
step for step. Run: ``python mocov3_in_one_file.py FOLDER`` (class folders, as torchvision reads them).
"""

import copy
import itertools
import math
import sys

import timm
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

EPOCHS, WARMUP, BATCH, LR, WEIGHT_DECAY, MOMENTUM, TEMPERATURE = 300, 40, 256, 1.5e-4, 0.1, 0.99, 0.2


def view(blur: float, solarize: float) -> nn.Module:
    """One of the two augmentations (section 5; BYOL's, arXiv 2006.07733, table 6)."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(224, scale=(0.08, 1.0)),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], p=blur),
            v2.RandomSolarize(128, p=solarize),
            v2.RandomHorizontalFlip(),
            v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


def vit(name: str = 'vit_small_patch16_224', **kwargs) -> nn.Module:
    """A transformer as section 5 starts it: fixed sine-cosine positions; its patch projection is never trained."""
    model = timm.create_model(name, num_classes=0, **kwargs)
    for layer, module in model.named_modules():  # Xavier, with query, key and value as matrices of their own
        if isinstance(module, nn.Linear):
            bound = math.sqrt(6 / (module.in_features + module.out_features // (3 if layer.endswith('qkv') else 1)))
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)
    patches = model.patch_embed.proj
    bound = math.sqrt(6 / (patches.weight[0].numel() + patches.out_channels))
    nn.init.uniform_(patches.weight, -bound, bound)
    nn.init.zeros_(patches.bias)
    model.patch_embed.requires_grad_(False)  # section 4.2: it is what keeps the training stable
    nn.init.normal_(model.cls_token, std=1e-6)
    (rows, columns), width = model.patch_embed.grid_size, model.embed_dim
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    r, c = (
        x.reshape(-1, 1) * frequency for x in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij')
    )
    positions = torch.cat([r.sin(), r.cos(), c.sin(), c.cos()], dim=1)  # (patches, width)
    model.pos_embed.data.copy_(F.pad(positions, (0, 0, 1, 0)))  # zeros for the class token
    model.pos_embed.requires_grad_(False)
    return model


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with BatchNorm, and ReLU between; the last BatchNorm has neither scale nor shift."""
    layers: list[nn.Module] = []
    for last, (i, o) in enumerate(itertools.pairwise(widths), start=3 - len(widths)):  # 1 at the last layer
        layers += [nn.Linear(i, o, bias=False), nn.BatchNorm1d(o, affine=last != 1)]
        layers += [] if last == 1 else [nn.ReLU()]
    return nn.Sequential(*layers)


class MoCoV3(nn.Module):
    """Query encoder, predictor, and a key encoder that follows slowly."""

    def __init__(self, backbone: nn.Module, hidden: int = 4096, out: int = 256) -> None:
        super().__init__()
        self.query = nn.Sequential(backbone, mlp(backbone.num_features, hidden, hidden, out))
        self.predictor = mlp(out, hidden, out)
        self.key = copy.deepcopy(self.query).requires_grad_(False)

    @torch.no_grad()
    def update_key_encoder(self, momentum: float) -> None:
        for slow, fast in zip(self.key.parameters(), self.query.parameters()):
            slow.lerp_(fast, 1 - momentum)

    def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        q1, q2 = (F.normalize(self.predictor(self.query(x)), dim=1) for x in (x1, x2))
        with torch.no_grad():
            k1, k2 = (F.normalize(self.key(x), dim=1) for x in (x1, x2))
        own = torch.arange(len(q1), device=q1.device)  # row i's positive key is key i; the others are its negatives
        losses = [F.cross_entropy(q @ k.T / TEMPERATURE, own) for q, k in ((q1, k2), (q2, k1))]
        return 2 * TEMPERATURE * sum(losses)


def train(model: MoCoV3, loader, epochs: int = EPOCHS, warmup: int = WARMUP, peak: float = LR * BATCH / 256) -> None:
    """Epochs of batches (x1, x2), two views of the same images: warm-up, then a cosine; momentum rises to 1."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=peak, weight_decay=WEIGHT_DECAY)
    for step, (x1, x2) in enumerate(views for _ in range(epochs) for views in loader):
        epoch = step / len(loader)
        cosine = (1 + math.cos(math.pi * max(epoch - warmup, 0) / (epochs - warmup))) / 2
        optimizer.param_groups[0]['lr'] = peak * (epoch / warmup if epoch < warmup else cosine)
        model.update_key_encoder(1 - (1 - MOMENTUM) * (1 + math.cos(math.pi * epoch / epochs)) / 2)
        loss = model(x1, x2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f'epoch {epoch:.2f}  loss {loss.item():.4f}  (chance {4 * TEMPERATURE * math.log(len(x1)):.4f})')


if __name__ == '__main__':
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    one, two = view(blur=1.0, solarize=0.0), view(blur=0.1, solarize=0.2)
    images = ImageFolder(sys.argv[1], lambda image: (one(image).to(device), two(image).to(device)))
    batches = torch.utils.data.DataLoader(images, BATCH, shuffle=True, drop_last=True, collate_fn=lambda samples: [
        torch.stack(x) for x in zip(*(views for views, _ in samples))
    ])  # fmt: skip
    model = MoCoV3(vit(num_heads=12)).to(device)
    train(model, batches)
    torch.save(model.query[0].state_dict(), 'backbone.pth')
