"""The vocabulary of the monitors: states and their usual causes, readings, verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WARMING = 'queue warming'
AT_CHANCE = 'at chance'
LEARNING = 'learning'
SATURATED = 'saturated'
SHORTCUT = 'shortcut suspected'
COLLAPSED = 'collapsed'
DIVERGING = 'diverging'
BELOW = 'below its start'
BAD = (SHORTCUT, COLLAPSED, DIVERGING, BELOW)
STATES = (WARMING, AT_CHANCE, LEARNING, SATURATED, *BAD)

# Attributes that a checkpoint may set, besides the window.
STATE: dict[str, Any] = {
    **dict.fromkeys(['state', 'candidate'], str | None),
    **dict.fromkeys(['since', 'solved_readings', 'skipped'], int),
    **dict.fromkeys(['collapsed_at_first', 'early', 'warm'], bool),
    **dict.fromkeys(['best_progress', 'first_std', 'first_knn', 'best_knn', 'first_recent_knn'], float | None),
    **dict.fromkeys(['best_recent_knn', 'knn_chance'], float),
    'below_since': int | None,
    'worst': list,
}

CAUSES: dict[str, list[str]] = {
    WARMING: [
        'the queue still holds random vectors, easy to tell apart: the loss rises until real keys have filled it',
        'the queue is longer than the images that the run sees: lower model.queue_len',
    ],
    AT_CHANCE: [
        'there were few steps: a few hundred images take hundreds of epochs',
        'the learning rate is too low, too high, or still in its warm-up',
        'the momentum is too large for a small data set: try base_momentum=0.99',
        'temperature 1.0 with a vision transformer: the paper has 0.2',
        'the two views have nothing in common: look at mocox visualize views',
    ],
    SATURATED: [
        'the contrastive task is solved: a larger batch, a longer queue or stronger augmentation make it harder',
    ],
    SHORTCUT: [
        'augmentation is too weak, so that colours or low-level detail give the pair away (p of colour jitter, blur)',
        'BatchNorm leaks which images share a batch: shuffle it, use SplitBN, and no SyncBN with a queue',
        'most images are near duplicates, for instance frames of a video',
        'the folders say nothing of what the images show: default_hooks.monitor.knn=False',
    ],
    COLLAPSED: [
        'the learning rate is too high, or a spike of the gradient was not caught: StabilityHook on_spike="skip"',
        'the weight decay is far too strong for this optimizer: AdamW has 0.1, LARS 1e-6',
        'the momentum is 0 or very small, so that keys and queries move together',
        'the projector or predictor lost its BatchNorm or its weights',
        'no negatives: a loss of your own that only pulls together',
        'the images are all alike, such as black ones: mocox doctor CONFIG looks at them',
    ],
    BELOW: [
        'the learning rate is too high for weights that are good already: divide optim_wrapper.optimizer.lr by 10',
        'the new heads pull the backbone before they have learned: train them first with the backbone frozen',
        'the momentum encoder follows too fast: base_momentum=0.999',
        'the views or the normalisation are not those that the weights were trained with: mocox visualize views',
    ],
    DIVERGING: [
        'the learning rate is too high for this batch: lower optim_wrapper.optimizer.lr, or lengthen the warm-up',
        'the momentum is 0 or very small, so that the keys of a queue grow old too fast: base_momentum=0.99',
        'the patch projection is trained: stop_grad_conv1=True keeps it at its initial value',
        'float16 overflows: use bfloat16',
        'an image or a loss of your own gives a value that is not finite: mocox replay on the dump says where',
    ],
}


@dataclass
class Reading:
    """The monitors' measurements at one iteration; None where there is none.

    Args:
        iteration: Optimizer steps and micro-batches so far.
        loss: Mean since the last reading, in nats.
        progress: Percent of the way from chance to the floor; NaN where undefined.
        fill: Real keys' share of the queue.
        top1: Contrastive accuracy, 0 to 1.
        negative_cosine: Mean cosine of queries with other images' keys.
        feature_std: Standard deviation of unit-length features, 1 where they are spread evenly.
        effective_rank: RankMe of the features.
        knn: Accuracy of the k-NN classifier, 0 to 1.
        grad_norm: Norm of the whole gradient.
        skipped: Steps not taken since the last reading, because their gradient was not finite.
    """

    iteration: int
    loss: float
    progress: float
    fill: float = 1.0
    top1: float | None = None
    negative_cosine: float | None = None
    feature_std: float | None = None
    effective_rank: float | None = None
    knn: float | None = None
    grad_norm: float | None = None
    skipped: int = 0


@dataclass
class Plain:
    """The backbone on a fixed set of images without augmentation.

    Args:
        num_images: Of the set.
        effective_rank: RankMe of the features.
        alignment: Mean squared distance of the unit-length features of an image and its mirror image.
        knn: Accuracy of the k-NN classifier that leaves the image itself out, 0 to 1; None without labels.
    """

    num_images: int
    effective_rank: float
    alignment: float
    knn: float | None = None

    def __str__(self) -> str:
        knn = '' if self.knn is None else f'k-NN {100 * self.knn:.1f} %, '
        return f'{knn}effective rank {self.effective_rank:.1f}, alignment {self.alignment:.3f}'


@dataclass
class Verdict:
    """A state with its evidence.

    Args:
        state: One of the constants of this module.
        message: One sentence for a person.
        evidence: The numbers behind it.
        causes: What usually brings it about, most frequent first.
    """

    state: str
    message: str
    evidence: dict[str, float] = field(default_factory=dict)
    causes: list[str] = field(default_factory=list)


def known_values(values: dict, types: Mapping[str, Any]) -> dict:
    """Check the values of a checkpoint that have a name in ``types``, and leave the others out.

    A whole number counts as a number, but true and false as neither.

    Raises:
        ValueError: A value is of another type: somebody else made the checkpoint.
    """
    if not isinstance(values, dict):
        raise ValueError(f'the checkpoint holds {values!r:.80} as a reading of the monitors')
    found = {name: value for name, value in values.items() if name in types}
    for name, value in found.items():
        kind = types[name]
        fits = isinstance(value, kind | int if isinstance(0.0, kind) else kind)
        texts = value if name == 'worst' else [value] if name in ('state', 'candidate') and value is not None else []
        if not fits or (isinstance(value, bool) and kind is not bool) or not all(text in STATES for text in texts):
            raise ValueError(f'the checkpoint holds {name}={value!r:.80} for the monitors, which is not a valid value')
    return found
