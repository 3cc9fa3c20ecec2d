"""The protocols, one function and one row of a table each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mocox import dist
from mocox.checkpoint.files import save_tensors
from mocox.checkpoint.provenance import stamp
from mocox.evaluation import linear, svm
from mocox.evaluation.encoder import LoadedEncoder
from mocox.evaluation.few_shot import few_shot_accuracies
from mocox.evaluation.knn import nearest_neighbours, weighted_vote
from mocox.evaluation.published import method_of
from mocox.evaluation.sampling import hold_out
from mocox.evaluation.task import Result, Task
from mocox.terminal import say

PENALTIES = tuple(10.0**-n for n in range(7))  # of logistic regression, strongest first


def knn(task: Task, ks: Sequence[int] = (1, 10, 20, 100, 200), temperature: float = 0.07) -> list[Result]:
    """Weighted vote of the k most similar training images."""
    _note_single_images(task)
    ks = _feasible(task, 'k-NN', ks, len(task.features) - task.leave_one_out, 'neighbours')
    similarities, rows = nearest_neighbours(task.test_features, task.features, max(ks), task.leave_one_out)
    settings = dict(temperature=temperature, similarity='cosine', leave_one_out=task.leave_one_out)
    predict = [weighted_vote(similarities[:, :k], task.labels[rows[:, :k]], temperature) for k in ks]
    n = len(task.test_labels)
    return [Result('knn', f'k={k}', 'top-1', task.top1(p), n, None, settings) for k, p in zip(ks, predict)]


def linear_probe(
    task: Task,
    epochs: int | None = None,
    batch_size: int | None = None,
    base_lrs: Sequence[float] = linear.BASE_LRS,
    held_out: float = 0.1,
) -> list[Result]:
    """The published linear evaluation on augmented images, the learning rate chosen on held-out training images."""
    encoder, data = task.encoder, task.data
    if encoder is None or data is None:
        raise ValueError('linear: features alone are not enough, it needs the encoder and the images')
    published = linear.V1_V2 if method_of(encoder.checkpoint) in ('MoCo v1', 'MoCo v2') else linear.V3
    recipe = linear.LinearRecipe(
        epochs or published.epochs,
        batch_size or published.batch_size,
        published.milestones and tuple(round(m * (epochs or 100) / 100) for m in published.milestones),
    )
    learn, choose = hold_out(task.labels.cpu(), held_out, seed=task.seed)
    grid = linear.train_grid(
        encoder.model, data.train, learn, task.num_classes, encoder.train_crops, recipe, base_lrs,
        task.num_workers, task.seed, partial(_report_epoch, recipe.epochs),
    )  # fmt: skip
    wanted = task.labels[choose.to(task.labels.device)].cpu()
    accuracies = (grid.predict(task.features[choose.to(task.features.device)]) == wanted).double().mean(dim=1)
    best = int(accuracies.argmax())
    if best in (int(torch.tensor(base_lrs).argmin()), int(torch.tensor(base_lrs).argmax())):
        task.notes.append('linear: the best learning rate is at the edge of the grid (linear.base_lrs)')
    path = task.work_dir / 'linear.pth'
    if dist.rank() == 0:
        save_linear(path, encoder, grid.weight[best], grid.bias[best], data.train.classes)
    settings = dict(
        base_lr=base_lrs[best], base_lrs=list(base_lrs), held_out_top1=[round(100 * a, 2) for a in accuracies.tolist()],
        held_out_images=len(choose), epochs=recipe.epochs, milestones=recipe.milestones,
        batch_size=linear.fitting_batch(recipe.batch_size, len(learn)), crops=encoder.train_crops, checkpoint=str(path),
        backbone_unchanged=True,
    )  # fmt: skip
    top1 = task.top1(grid.predict(task.test_features)[best])
    return [Result('linear', f'lr={base_lrs[best]:g}', 'top-1', top1, len(task.test_labels), None, settings)]


def save_linear(
    path: Path, encoder: LoadedEncoder, weight: Tensor, bias: Tensor, classes: Sequence[str] | None = None
) -> None:
    """Write the frozen backbone and a classifier as a ``LinearProbe``, for ``mocox predict`` and ``mocox test``.

    ``classes`` are names of the labels; those that the encoder's file may hold are of another classifier.
    """
    backbone = {f'backbone.{name}': tensor for name, tensor in encoder.model.backbone.state_dict().items()}
    metadata = stamp(
        'linear', encoder.which, encoder.checkpoint.arch, {**encoder.checkpoint.meta, 'classes': list(classes or ())}
    )
    save_tensors(path, {**backbone, 'head.fc.weight': weight, 'head.fc.bias': bias}, metadata)


def logreg(
    task: Task, penalties: Sequence[float] = PENALTIES, held_out: float = 0.1, max_iters: int = 200
) -> list[Result]:
    """Logistic regression on the features of the unaugmented images, the penalty chosen on held-out training images."""
    features, labels = task.features, task.labels
    scaling = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    learn, choose = (rows.to(features.device) for rows in hold_out(labels.cpu(), held_out, seed=task.seed))
    fit = partial(linear.logistic_regression, features, labels, task.num_classes, max_iters=max_iters, scaling=scaling)
    solution, accuracies = None, []
    for penalty in sorted(penalties, reverse=True):  # warm start from the solution for the stronger penalty
        solution = fit(penalty=penalty, start=solution, rows=learn)
        predicted = linear.predict(features, solution, choose, scaling)
        accuracies.append((predicted == labels[choose]).cpu().double().mean().item())
    best = max(range(len(penalties)), key=accuracies.__getitem__)  # ties go to the strongest penalty
    penalty = sorted(penalties, reverse=True)[best]
    solution = fit(penalty=penalty)
    top1 = task.top1(linear.predict(task.test_features, solution, scaling=scaling))
    settings = dict(penalty=penalty, penalties=list(penalties), held_out_images=len(choose), solver='L-BFGS')
    return [Result('logreg', f'penalty={penalty:g}', 'top-1', top1, len(task.test_labels), None, settings)]


def fewshot(
    task: Task, shots: Sequence[int] = (1, 5, 10), num_draws: int = 10, num_ways: int | None = None
) -> list[Result]:
    """Nearest class mean after a few training images per class; mean and spread over draws."""
    counts = torch.bincount(task.labels.cpu())
    results = []
    for k in _feasible(task, 'few-shot', shots, int(counts[counts > 0].min()), 'images per class'):
        accuracies = 100 * few_shot_accuracies(
            task.features, task.labels, task.test_features, task.test_labels, k, num_draws, num_ways, task.seed
        )
        settings = dict(num_draws=num_draws, num_ways=num_ways, classifier='nearest class mean, cosine')
        spread = accuracies.std(correction=0).item()
        mean, n = accuracies.mean().item(), len(task.test_labels)
        results.append(Result('fewshot', f'{k} per class', 'top-1', mean, n, spread, settings))
    return results


def linear_svm(task: Task, costs: Sequence[float] = svm.COSTS, num_jobs: int = 1) -> list[Result]:
    """One linear SVM per class, its cost chosen in 3-fold cross-validation: the VOC07 protocol."""
    precisions, chosen = svm.svm_average_precisions(*_svm_arrays(task), list(costs), task.seed, num_jobs)
    settings = dict(costs=chosen.tolist(), average_precisions=[round(100 * p, 2) for p in precisions.tolist()])
    return [Result('svm', 'all images', 'mAP', 100 * precisions.mean(), len(task.test_labels), None, settings)]


def low_shot_svm(
    task: Task,
    shots: Sequence[int] = svm.SHOTS,
    num_draws: int = 5,
    costs: Sequence[float] = svm.COSTS,
    num_jobs: int = 1,
) -> list[Result]:
    """The same with few positive images per class; mean and spread over draws."""
    arrays = _svm_arrays(task)
    most = int((arrays[1] == 1).sum(axis=0).min()) - 1
    results = []
    for k in _feasible(task, 'low-shot SVM', shots, most, 'positive images per class'):
        found = svm.low_shot_svm(*arrays, k, num_draws, list(costs), task.seed, num_jobs)
        settings = dict(num_draws=num_draws, cost=found.cost)
        n = len(task.test_labels)
        results.append(Result('lowshot', f'{k} per class', 'mAP', 100 * found.mean, n, 100 * found.std, settings))
    return results


@dataclass(frozen=True)
class Protocol:
    """A row of the table.

    Args:
        run: Called with the task and the settings.
        multi_label: Whether it takes images with several labels, and with one.
        needs_test: Whether it needs test images apart from the training images.
        collective: True if all processes take part.
        default_for: ``single`` or ``multi`` label data on which it runs unless told otherwise.
    """

    run: Callable[..., list[Result]]
    single_label: bool = True
    multi_label: bool = False
    needs_test: bool = True
    collective: bool = False
    default_for: str = 'single'


PROTOCOLS = {
    'knn': Protocol(knn, needs_test=False),
    'linear': Protocol(linear_probe, collective=True),
    'logreg': Protocol(logreg),
    'fewshot': Protocol(fewshot),
    'svm': Protocol(linear_svm, multi_label=True, default_for='multi'),
    'lowshot': Protocol(low_shot_svm, multi_label=True, default_for='multi'),
}


def choose_protocols(
    names: Sequence[str] | None, multi_label: bool, has_test: bool, notes: list[str] | None = None
) -> list[str]:
    """The protocols to run, those that all processes share first.

    Args:
        names: Protocols to run; by default all that suit the data.
        multi_label: Whether images have several labels.
        has_test: Whether there are test images.
        notes: Gets the reasons why some are left out.

    Raises:
        ValueError: An unknown one, or none that the data has labels and test images for.
    """
    kind = 'multi' if multi_label else 'single'
    if names is None:
        names = [n for n, p in PROTOCOLS.items() if p.default_for == kind and (has_test or not p.needs_test)]
    reasons = {}
    for name in names:
        if name not in PROTOCOLS:
            raise ValueError(f'there is no protocol {name!r}; there are {", ".join(PROTOCOLS)}')
        if multi_label and not PROTOCOLS[name].multi_label:
            reasons[name] = 'takes images with one label each; for several there are svm and lowshot'
        elif PROTOCOLS[name].needs_test and not has_test:
            reasons[name] = 'needs test images: a folder with train and val, or --protocols knn'
    chosen = [name for name in dict.fromkeys(names) if name not in reasons]
    if not chosen:
        raise ValueError('; '.join(f'{name} {reason}' for name, reason in reasons.items()))
    if notes is not None:
        notes += [f'{name} was left out: it {reason}' for name, reason in reasons.items()]
    return sorted(chosen, key=lambda name: not PROTOCOLS[name].collective)


def _feasible(task: Task, name: str, wanted: Sequence[int], most: int, what: str) -> list[int]:
    """The wanted numbers that the data has enough images for; the others are noted."""
    if wrong := [k for k in wanted if not isinstance(k, int) or isinstance(k, bool) or k < 1]:
        raise ValueError(f'{name}: {what} must be whole numbers of at least 1, got {wrong[0]!r}')
    feasible = [k for k in wanted if 1 <= k <= most]
    if not feasible:
        raise ValueError(f'{name}: at most {most} {what} are possible, wanted {", ".join(map(str, wanted))}')
    if left_out := [str(k) for k in wanted if k not in feasible]:
        task.notes.append(f'{name}: {", ".join(left_out)} left out, at most {most} {what} are possible')
    return feasible


def _note_single_images(task: Task) -> None:
    """Warn that leave-one-out always misses an image that is alone in its class."""
    if not task.leave_one_out:
        return
    single = int((torch.bincount(task.labels.cpu()) == 1).sum())
    if single == len(task.labels):
        raise ValueError('every class has one image, so leave-one-out always fails: add images, or a val folder')
    if single:
        task.notes.append(
            f'k-NN: {single} of {len(task.labels)} images are the only ones of their class and count as wrong'
        )


def _svm_arrays(task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    def targets(labels: Tensor) -> np.ndarray:
        values = labels.cpu().numpy()
        return values if values.ndim == 2 else svm.one_hot_targets(values, task.num_classes)

    features, test_features = task.features.cpu().numpy(), task.test_features.cpu().numpy()
    return features, targets(task.labels), test_features, targets(task.test_labels)


def _report_epoch(num_epochs: int, epoch: int, losses: Tensor) -> None:
    if dist.rank() == 0 and (epoch == num_epochs or epoch % max(1, num_epochs // 10) == 0):
        lowest = losses.nan_to_num(torch.inf).min()
        say(f'linear: epoch {epoch} of {num_epochs}, lowest loss {lowest:.3f}')
