"""One contest: train, judge, write a line of JSON; what is there already is not done again."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from lab.benchmark.mocox_contender import read_config
from lab.benchmark.report import device_name
from lab.quality.contestants import Builder, Contestant
from lab.quality.images import Images
from lab.quality.judge import features_of, finetune, judge
from mocox.checkpoint.files import write_atomically
from mocox.schedules import warmup_cosine

CALIBRATION_STEPS = 8  # timed to turn seconds into steps, after two that are not


@dataclass(frozen=True)
class Contest:
    """The same for all contestants.

    Args:
        data_root: Folder of IDX files.
        config: The recipe that gives backbone and views.
        train: Images to pre-train on.
        held_out: Training images to judge on, from ``first_held_out`` on; None: the test images.
        first_held_out: Number of the first of them.
        batch: Images of a step.
        epochs: Length of a run, unless ``seconds`` says it.
        seconds: CPU seconds of training steps, one thread.
        points: How often a run is judged, the last time at its end.
        with_finetuning: Whether 1 % of the labels are tried too.
        options: Changes to the recipe.
    """

    data_root: str
    config: str
    train: int = 8000
    held_out: int | None = 2000
    first_held_out: int = 50_000
    batch: int = 128
    epochs: int = 8
    seconds: float | None = None
    points: int = 2
    with_finetuning: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def run(contest: Contest, name: str, builder: Builder, seed: int, out: Path, is_ours: bool = True) -> dict[str, Any]:
    """Trains one contestant with one seed and judges it, or reads what an earlier call has written.

    Raises:
        ValueError: ``out`` holds results of another contest.
    """
    path = out / f'{name.replace(" ", "-").replace("/", "-")}_{seed}.json'
    if path.is_file():
        found = json.loads(path.read_text())
        if found['contest'] != json.loads(json.dumps(asdict(contest))):  # tuples are lists there
            raise ValueError(f'{path} is of another contest: give another --out')
        return found
    result = dict(name=name, seed=seed, contest=asdict(contest), machine=machine())
    try:
        result |= _train_and_judge(contest, builder, seed)
    except Exception as error:  # of a peer, whatever it raises: named in the table
        if is_ours:
            raise
        result['error'] = f'{type(error).__name__}: {error}'[:300]
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: Path(temporary).write_text(json.dumps(result, indent=1) + '\n'))
    return result


def _train_and_judge(contest: Contest, builder: Builder, seed: int) -> dict[str, Any]:
    config = read_config(contest.config, options=contest.options)
    images = Images(config, contest.data_root, contest.train, contest.held_out, contest.first_held_out, seed)
    steps = contest.epochs * (contest.train // contest.batch)
    if contest.seconds is not None:
        steps = max(1, int(contest.seconds / _seconds_of_a_step(contest, builder, config, images)))
    contestant = _build(contest, builder, config, steps, seed)
    if contestant.lr:
        points, loss = _train(contest, contestant, images, steps)
    else:
        points, loss = [dict(images=0, seconds=0.0, **_judge(contestant, images))], None
    last = dict(finetuned=_finetuned(contestant, images, seed)) if contest.with_finetuning else {}
    return dict(points=points, loss=loss, remarks=contestant.remarks, **last)


def _train(contest: Contest, contestant: Contestant, images: Images, steps: int) -> tuple[list[dict], float]:
    """The points at which it was judged, and the mean loss of the last 20 steps."""
    judged_at = {round(steps * (i + 1) / contest.points) for i in range(contest.points)}
    points, losses, seconds = [], [], 0.0
    for done, (views, labels) in enumerate(images.views(contest.batch), start=1):
        _set_lr(contestant, (done - 1) / steps)
        start = time.process_time()
        losses.append(contestant.step([*views, labels] if contestant.wants_labels else views))
        seconds += time.process_time() - start
        if done in judged_at:
            scores = _judge(contestant, images)
            points.append(dict(images=done * contest.batch, seconds=round(seconds, 2), **scores))
        if done == steps:
            break
    return points, sum(losses[-20:]) / len(losses[-20:])


def _build(contest: Contest, builder: Builder, config: Any, steps: int, seed: int) -> Contestant:
    torch.manual_seed(seed)
    return builder(config, contest.batch, steps)


def _seconds_of_a_step(contest: Contest, builder: Builder, config: Any, images: Images) -> float:
    contestant, times = _build(contest, builder, config, 1000, 0), []
    _set_lr(contestant, 0.0)
    for views, labels in images.views(contest.batch):
        start = time.process_time()
        contestant.step([*views, labels] if contestant.wants_labels else views)
        times.append(time.process_time() - start)
        if len(times) == CALIBRATION_STEPS + 2:
            return max(sum(times[2:]) / CALIBRATION_STEPS, 1e-6)
    raise AssertionError('views have no end')


def _set_lr(contestant: Contestant, progress: float) -> None:
    lr = contestant.lr
    if contestant.decays or progress < contestant.warmup:
        lr = warmup_cosine(progress, lr, contestant.warmup, 1.0)
    for group in contestant.optimizer.param_groups:
        group['lr'] = contestant.lr if group.get('fix_lr') else lr


def _judge(contestant: Contestant, images: Images) -> dict[str, float]:
    train, test = (features_of(contestant.backbone, part.images) for part in (images.train, images.test))
    return judge(train, test, images.train.labels, images.test.labels)


def _finetuned(contestant: Contestant, images: Images, seed: int) -> float | None:
    if not any(True for _ in contestant.backbone.parameters()):
        return None
    return finetune(contestant.backbone, images.train, images.test, seed)


def machine() -> dict[str, Any]:
    """Machine and versions of the measurements."""
    return dict(processor=device_name('cpu'), threads=torch.get_num_threads(), torch=torch.__version__)
