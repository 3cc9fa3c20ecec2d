"""Memory of a training step of MoCo v3, computed from the sizes of the model: for cards that cannot be measured.

Counts tensors: weights, momentum encoder, optimizer, gradients, views, what the backward pass needs of backbone and
heads, and the tensors of the block in work. It does not count the CUDA context (about half a GB), workspaces of
libraries, and what the allocator loses to fragmentation: :data:`HEADROOM` of a card is left for those.
"""

from dataclasses import dataclass, fields, replace

HEADROOM = 0.1  # share of a card
FLOAT = 4  # bytes
VITS = {  # width, blocks, heads
    'vit-tiny': (192, 12, 12),
    'vit-small': (384, 12, 12),
    'vit-base': (768, 12, 12),
    'vit-large': (1024, 24, 16),
    'vit-huge': (1280, 32, 16),
}
RESNETS = {'resnet50': (3, 4, 6, 3)}  # blocks per stage
OUT_CHANNELS = 256
LARGEST_LOGITS = 2**22  # more are computed in chunks
CHUNK_SIZES = (4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8)


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, by what they are for.

    Attributes:
        weights: Of the query encoder with its predictor.
        momentum: Of the momentum encoder.
        optimizer: Its moments.
        gradients: Of the weights.
        views: Both, float32.
        backbone: What the backward pass needs of the backbone, and the block in work.
        heads: The same of projector, predictor and loss.
        casts: Weights in the precision of the matrix products.
    """

    weights: float = 0.0
    momentum: float = 0.0
    optimizer: float = 0.0
    gradients: float = 0.0
    views: float = 0.0
    backbone: float = 0.0
    heads: float = 0.0
    casts: float = 0.0

    @property
    def total(self) -> float:
        """The sum."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Backbone:
    """Sizes of a backbone.

    Attributes:
        width: Of its features.
        num_weights: Parameters.
        num_frozen: Of them, those that are not trained.
        kept: Bytes that the backward pass needs, per view.
        working: Bytes of the block in work, per view.
        given: Bytes of its features, per view.
        batch_norm: Whether views pass one at a time.
    """

    width: int
    num_weights: int
    num_frozen: int
    kept: float
    working: float
    given: float
    batch_norm: bool


def describe(arch: str, image_size: int, half: bool, patch_size: int = 16) -> Backbone:
    """The backbone called ``arch``.

    Args:
        arch: A key of :data:`VITS` or :data:`RESNETS`.
        image_size: Side of a view in pixels.
        half: Whether matrix products run in two bytes under autocast.
        patch_size: Of a ViT.

    Raises:
        ValueError: Unknown ``arch``.
    """
    if arch in VITS:
        return describe_vit(*VITS[arch], image_size, patch_size, half)
    if arch in RESNETS:
        return describe_resnet(RESNETS[arch], image_size, half)
    raise ValueError(f'arch={arch!r}: the memory is known of {sorted({*VITS, *RESNETS})}')


def describe_vit(width: int, depth: int, heads: int, image_size: int, patch_size: int, half: bool) -> Backbone:
    """A vision transformer.

    Kept of a block, in multiples of the width, per token: two inputs of norms (always float32), inputs of qkv, of the
    first and, four times as wide, of the second layer of the MLP, the input of its GELU (4), q, k and v (3), and what
    attention gives (1).
    """
    tokens = 1 + (image_size // patch_size) ** 2
    per_block = 2 * FLOAT + 14 * (2 if half else FLOAT)  # bytes per token and channel: 36 or 64
    kept = tokens * (depth * (per_block * width + FLOAT * heads + 4 * FLOAT) + FLOAT * width)
    frozen = 3 * patch_size**2 * width + width + tokens * width
    return Backbone(
        width=width,
        num_weights=frozen + width + depth * (12 * width**2 + 13 * width) + 2 * width,
        num_frozen=frozen,
        kept=kept,
        working=tokens * width * (12 if half else 18),  # measured: the backward pass frees nearly what it needs
        given=FLOAT * width,
        batch_norm=False,
    )


def describe_resnet(blocks: tuple[int, ...], image_size: int, half: bool) -> Backbone:
    """A ResNet of bottlenecks. Kept: what every convolution and every ReLU gives, and the indices of the pooling."""
    values, weights = 0, 3 * 64 * 49 + 128
    side = image_size // 2
    values += 2 * 64 * side**2
    side //= 2
    values += 64 * side**2
    pooled, width = 64 * side**2, 64
    for stage, count in enumerate(blocks):
        mid = 64 * 2**stage
        for block in range(count):
            before = side
            side = side // 2 if stage and not block else side
            values += 2 * mid * before**2 + 10 * mid * side**2
            weights += width * mid + 9 * mid**2 + 4 * mid**2 + 2 * (mid + mid + 4 * mid)
            if not block:  # the shortcut's convolution
                values += 4 * mid * side**2
                weights += width * 4 * mid + 8 * mid
            width = 4 * mid
    size = 2 if half else FLOAT
    kept = size * (values + 3 * image_size**2) + 8 * pooled
    return Backbone(width, weights, 0, kept, working=0.0, given=size * width * side**2, batch_norm=True)


def step_memory(
    backbone: Backbone,
    batch_size: int,
    chunk_size: int | None = None,
    image_size: int = 224,
    half: bool = True,
    world_size: int = 1,
    hidden: int = 4096,
    moments: int = 2,
) -> Memory:
    """Peak of one training step on one process.

    Args:
        backbone: See :func:`describe`.
        batch_size: Images on this process.
        chunk_size: Of the algorithm.
        image_size: Side of the views in pixels.
        half: Whether matrix products run in two bytes under autocast.
        world_size: Processes, whose keys are compared with.
        hidden: Width of the heads' hidden layers.
        moments: Values the optimizer keeps for a weight: 2 for AdamW, 1 for LARS.

    Returns:
        The larger of two moments: when the backward pass begins with the heads, and when it begins with the backbone
        (with chunks: with the last of them), or of the optimizer's step.
    """
    size = 2 if half else FLOAT
    projector = backbone.width * hidden + 2 * hidden + hidden * OUT_CHANNELS
    largest = backbone.width * hidden
    if not backbone.batch_norm:  # the ViTs' projector has a layer more
        projector += hidden**2 + 2 * hidden
        largest = max(largest, hidden**2)
    head_weights = projector + 2 * OUT_CHANNELS * hidden + 2 * hidden
    trained = backbone.num_weights - backbone.num_frozen
    views = 2 * batch_size * 3 * image_size**2 * FLOAT
    chunked = chunk_size is not None and chunk_size < batch_size
    live = chunk_size if chunked else 2 * batch_size
    logits = min(batch_size * batch_size * world_size, LARGEST_LOGITS)
    hidden_layers = 2 if backbone.batch_norm else 3  # of projector and predictor
    per_view = size * (backbone.width + hidden_layers * 2 * hidden) + 8 * FLOAT * OUT_CHANNELS
    base = Memory(
        weights=FLOAT * (backbone.num_weights + head_weights),
        momentum=FLOAT * (backbone.num_weights + projector),
        optimizer=moments * FLOAT * (trained + head_weights),
        views=views,
    )
    kept = live * (backbone.kept + backbone.working)
    at_heads = replace(
        base,
        gradients=FLOAT * head_weights + (0 if half else 2 * FLOAT * largest),  # both views' and their sum
        backbone=0.0 if chunked else 2 * batch_size * backbone.kept,
        heads=2 * batch_size * per_view + 2 * FLOAT * logits,
        casts=size * (head_weights + (0 if chunked else trained)) if half else 0.0,
    )
    at_backbone = replace(
        base,
        # Chunks add up their gradients, in float32. The last stages of a ResNet have most of its weights and the first
        # most of its activations: at the peak, half of the gradients are there.
        gradients=FLOAT * head_weights + trained * (FLOAT if chunked else FLOAT / 2 * backbone.batch_norm),
        backbone=kept + (2 * batch_size * backbone.given if chunked else 0),  # gradients of all features
        casts=size * trained if half else 0.0,
    )
    at_optimizer = replace(base, gradients=FLOAT * (trained + head_weights))
    return max(at_heads, at_backbone, at_optimizer, key=lambda memory: memory.total)


def largest_chunk(
    backbone: Backbone, batch_size: int, card_bytes: float, image_size: int = 224, moments: int = 2
) -> tuple[int | None, Memory] | None:
    """The fastest setting that fits on a card: no chunks, else the largest chunk; None if nothing fits.

    Args:
        backbone: See :func:`describe`, in half precision.
        batch_size: Images per step.
        card_bytes: All memory of the card; :data:`HEADROOM` of it is left free.
        image_size: Side of the views in pixels.
        moments: Of the optimizer.

    Returns:
        ``chunk_size`` and the memory it takes.
    """
    for chunk_size in (None, *(size for size in CHUNK_SIZES if size < batch_size)):
        memory = step_memory(backbone, batch_size, chunk_size, image_size, moments=moments)
        if memory.total <= (1 - HEADROOM) * card_bytes:
            return chunk_size, memory
    return None
