"""The state of a run in words: a small state machine over plain numbers, without torch."""

from collections import deque
from dataclasses import asdict, fields
from math import isfinite, nan

from mocox.monitors.readings import (
    AT_CHANCE,
    BAD,
    BELOW,
    CAUSES,
    COLLAPSED,
    DIVERGING,
    LEARNING,
    SATURATED,
    SHORTCUT,
    STATE,
    WARMING,
    Plain,
    Reading,
    Verdict,
    known_values,
)
from mocox.monitors.start import compare
from mocox.monitors.wording import describe

# What separates the states. Shares are of 1.
CHANCE_PROGRESS = 5.0  # percent of the way to the floor that chance alone does not give
BACK_AT_CHANCE = 1.0  # percent: a run that has learned a little is at chance again only when that is lost
SOLVED_ACCURACY = 0.95  # contrastive top-1 of a task that is as good as solved
UNSOLVED_ACCURACY = 0.9  # contrastive top-1 at which a solved task counts as unsolved again
SOLVED_READINGS = 20  # whose mean that is: one reading of 128 images is 2 points off, and on either side by turns
SHORTCUT_ACCURACY = 0.9
LARGEST_CLASS = 0.8  # share of the images above which k-NN has no room to rise
FLAT_KNN = 0.05  # share of the k-NN classifier's initial error that must be gone by then
SHORTCUT_READINGS = 20  # readings at that accuracy before a flat k-NN means anything
KNN_READINGS = 5  # whose mean is the k-NN classifier's accuracy: one reading has 128 images
FLAT_READINGS = 20
FLAT_SHARE = 0.25  # of its first accuracy, which k-NN must have gained when the run has been learning for long
STALLED_PROGRESS = 1.0  # percent over the last half of the window
ALIKE_COSINE = 0.98  # of queries with other images' keys
FLAT_STD = 0.01  # of unit-length features, 1 where they are spread evenly
NO_RANK = 1.05  # effective rank of features that all point the same way
LOST_PROGRESS = 30.0  # percent lost since the best
SHRUNK_STD = 0.1  # of the features' initial spread, where they have lost their rank besides
SHRUNK_RANK = 2.0
SHRUNK_PROGRESS = 30.0  # percent that features on a line still give: 26 was the most of the runs that collapsed
LOST_KNN = 0.5  # share of the k-NN classifier's lead over the largest class that is lost since its best
LEAST_LOST_KNN = 0.1  # of 1: less than this is noise
EXPLODED_GRADIENT = 1000.0  # times the median of the window
WINDOW = 50  # readings that are remembered


class TrainingState:
    """State machine that judges a run by its readings.

    A new state holds from its second reading in a row, so that one odd batch changes nothing; a loss that is not finite
    counts at once.

    Args:
        patience: Iterations at chance after which that is worth a warning.
    """

    def __init__(self, patience: int = 500) -> None:
        self.patience = patience
        self.window: deque[Reading] = deque(maxlen=WINDOW)
        self.state: str | None = None
        self.candidate: str | None = None
        self.since = 0  # iteration at which the present state began
        self.collapsed_at_first = False  # which weights that have learned nothing do not explain
        self.early = True  # it has been in no other state yet than those of every young run
        self.best_progress: float | None = None
        self.first_std: float | None = None
        self.first_knn: float | None = None
        self.best_knn: float | None = None
        self.first_recent_knn: float | None = None
        self.best_recent_knn = 0.0
        self.knn_chance = 0.0  # accuracy of always answering the largest class
        self.solved_readings = 0
        self.skipped = 0
        self.warm = False  # it starts from trained weights
        self.start: Plain | None = None  # before the first step
        self.plain: Plain | None = None  # the last of these
        self.below_since: int | None = None
        self.worst: list[str] = []  # bad states that the run has been in

    def update(self, reading: Reading) -> Verdict:
        """Take a reading into account and return the verdict."""
        self._remember(reading)
        verdict = self._judge(reading)
        confirmed = verdict.state == self.candidate or not isfinite(reading.loss)
        self.candidate = verdict.state
        if self.state is not None and verdict.state != self.state and not confirmed:
            verdict = Verdict(self.state, describe(self, self.state, reading))
        if verdict.state != self.state:
            self.collapsed_at_first = self.state is None and verdict.state == COLLAPSED
            self.since = 0 if self.state is None else reading.iteration
            self.state = verdict.state
            self.early = self.early and verdict.state in (WARMING, AT_CHANCE)
            if verdict.state in BAD and verdict.state not in self.worst:
                self.worst.append(verdict.state)
        if verdict.state == AT_CHANCE:
            num = reading.iteration - self.since
            verdict.message = 'at chance' if self.early else 'at chance again'
            if num:
                verdict.message += f' for {num:,} iteration{"s" * (num != 1)}'
            if self.early and not self.needs_help(reading.iteration):
                verdict.message += ', as every run is at first'
                verdict.causes = []  # of nothing that is wrong
        return verdict

    def measured(self, iteration: int, plain: Plain) -> None:
        """Take a measurement on plain images into account; the first is the start."""
        self.start = self.start or plain
        self.plain = plain
        if compare(self.start, plain) != BELOW:
            self.below_since = None
        elif self.below_since is None:
            self.below_since = iteration

    def needs_help(self, iteration: int) -> bool:
        """True if a person should look at the run."""
        return self.state in BAD or (self.state == AT_CHANCE and iteration - self.since >= self.patience)

    def causes(self, state: str) -> list[str]:
        """Usual causes of a state, most frequent first, without those that this run rules out."""
        images_first = state == COLLAPSED and (self.state is None or self.collapsed_at_first)
        folders_first = state == SHORTCUT and self.never_left_chance()
        causes = CAUSES[state]
        return [causes[-1], *causes[:-1]] if images_first or folders_first else causes

    def never_left_chance(self) -> bool:
        """True if the k-NN classifier has never been better than always answering the largest class."""
        return self.knn_chance > 0 and self.best_recent_knn - self.knn_chance < FLAT_KNN * (1 - self.knn_chance)

    def _remember(self, reading: Reading) -> None:
        self.window.append(reading)
        self.skipped += reading.skipped
        if isfinite(reading.progress) and reading.fill >= 1:
            progress = self._smooth_progress()
            self.best_progress = progress if self.best_progress is None else max(self.best_progress, progress)
        if self.first_std is None:
            self.first_std = reading.feature_std
        if reading.knn is not None:
            self.first_knn = reading.knn if self.first_knn is None else self.first_knn
            self.best_knn = max(reading.knn, self.best_knn or 0.0)
        recent_knn = self._recent_knn()
        if recent_knn is not None:
            self.first_recent_knn = recent_knn if self.first_recent_knn is None else self.first_recent_knn
            self.best_recent_knn = max(recent_knn, self.best_recent_knn)
        self.solved_readings += (reading.top1 or 0.0) >= SHORTCUT_ACCURACY

    def _smooth_progress(self, readings: int = 3) -> float:
        full = [r for r in list(self.window)[-readings:] if r.fill >= 1]  # before, chance hardly differs from the floor
        recent = [r.progress for r in full if isfinite(r.progress)]
        return _mean(recent) if recent else 0.0

    def _recent_knn(self, readings: int = KNN_READINGS) -> float | None:
        recent = [r.knn for r in self.window if r.knn is not None][-readings:]
        return _mean(recent) if len(recent) >= KNN_READINGS else None

    def _judge(self, r: Reading) -> Verdict:
        for state, find in (
            (DIVERGING, self._diverging), (COLLAPSED, self._collapsed), (WARMING, self._warming), (BELOW, self._below),
            (DIVERGING, self._forgetting), (SHORTCUT, self._shortcut), (SATURATED, self._saturated),
        ):  # fmt: skip
            if evidence := find(r):
                return Verdict(state, describe(self, state, r), evidence, self.causes(state))
        progress = self._smooth_progress()
        little = self.state == LEARNING and (self.best_progress or 0.0) < 2 * CHANCE_PROGRESS
        if progress < (BACK_AT_CHANCE if little else CHANCE_PROGRESS):
            evidence = dict(loss=r.loss, progress=progress)
            return Verdict(AT_CHANCE, describe(self, AT_CHANCE, r), evidence, CAUSES[AT_CHANCE])
        return Verdict(LEARNING, describe(self, LEARNING, r), dict(loss=r.loss, progress=progress))

    def _diverging(self, r: Reading) -> dict[str, float]:
        if not isfinite(r.loss):
            return dict(loss=r.loss)
        if sum(x.skipped for x in list(self.window)[-3:]) >= 3:
            return dict(skipped_steps=float(self.skipped))
        progress = self._smooth_progress()
        best = self.best_progress
        if r.fill >= 1 and best is not None and best - progress > LOST_PROGRESS:
            return dict(loss=r.loss, progress=progress, best_progress=best)
        norms = sorted(x.grad_norm for x in self.window if x.grad_norm is not None)
        if r.grad_norm is not None and len(norms) >= 10 and r.grad_norm > EXPLODED_GRADIENT * norms[len(norms) // 2]:
            return dict(grad_norm=r.grad_norm, median_grad_norm=norms[len(norms) // 2])
        return {}

    def _collapsed(self, r: Reading) -> dict[str, float]:
        evidence = {}
        if r.negative_cosine is not None and r.negative_cosine > ALIKE_COSINE:
            evidence['negative_cosine'] = r.negative_cosine
        if r.feature_std is not None and r.feature_std < FLAT_STD:
            evidence['feature_std'] = r.feature_std
        if r.effective_rank is not None and r.effective_rank < NO_RANK:
            evidence['effective_rank'] = r.effective_rank
        std, first, rank = r.feature_std, self.first_std, r.effective_rank
        progress = max(self._smooth_progress(), r.progress)  # the mean where there is no progress
        if std is not None and first is not None and rank is not None and progress < SHRUNK_PROGRESS:
            shrunk = std < SHRUNK_STD * first and rank < SHRUNK_RANK
            still = self.state == COLLAPSED and (std < 2 * SHRUNK_STD * first or rank < SHRUNK_RANK)  # hysteresis
            if shrunk or still:
                evidence = dict(feature_std=std, first_std=first, effective_rank=rank)
        return evidence

    def _warming(self, r: Reading) -> dict[str, float]:
        return dict(fill=r.fill, loss=r.loss) if r.fill < 1 else {}

    def _below(self, r: Reading) -> dict[str, float]:
        if not self.warm or self.below_since is None or r.iteration - self.below_since < self.patience:
            return {}
        now, start = self.knn_since_start()
        return dict(knn=now, start_knn=start, iterations=float(r.iteration - self.below_since))

    def knn_since_start(self) -> tuple[float, float]:
        """k-NN on plain images now and at the start; NaN where it was not measured."""
        now, start = (nan if plain is None or plain.knn is None else plain.knn for plain in (self.plain, self.start))
        return now, start

    def _forgetting(self, r: Reading) -> dict[str, float]:
        knn, best = self._recent_knn(), self.best_recent_knn
        if self.early:  # nothing is learned yet: what k-NN has lost was noise
            return {}
        if knn is None or best - knn <= max(LOST_KNN * (best - self.knn_chance), LEAST_LOST_KNN):
            return {}
        return dict(knn=knn, best_knn=best, progress=self._smooth_progress())

    def _shortcut(self, r: Reading) -> dict[str, float]:
        first, best = self.first_knn, self.best_knn
        if first is None or best is None or r.top1 is None or not self.knn_can_rise():
            return {}
        solved = self.solved_readings >= SHORTCUT_READINGS and r.top1 >= SHORTCUT_ACCURACY
        flat = best - first < FLAT_KNN * (1 - first)
        long = self.state == LEARNING and r.iteration - self.since >= self.patience
        falls = (long or self.state == SHORTCUT) and self._smooth_progress() >= CHANCE_PROGRESS
        lost = self.below_since is not None and r.iteration - self.below_since >= self.patience  # on plain images
        if (solved and (flat or lost)) or (falls and self.knn_is_flat()):
            return dict(contrastive_top1=r.top1, knn=r.knn or 0.0, first_knn=first)
        return {}

    def knn_is_flat(self) -> bool:
        """True if the k-NN classifier has improved neither on its start nor on the largest class."""
        knn, recent_knn, first = self._recent_knn(FLAT_READINGS), self._recent_knn(), self.first_recent_knn
        if knn is None or recent_knn is None or first is None or not self.knn_can_rise():
            return False
        if self.state != SHORTCUT:  # it may be about to rise
            knn = max(knn, recent_knn)
        start = max(first, self.knn_chance)
        return knn - start < min(FLAT_SHARE * start, FLAT_KNN * (1 - start))

    def knn_can_rise(self) -> bool:
        """False where the largest class leaves no room, or the run has begun with weights that know the classes."""
        return self.knn_chance <= LARGEST_CLASS and not (self.warm and not self.never_left_chance())

    def _saturated(self, r: Reading) -> dict[str, float]:
        progresses = [x.progress for x in self.window if isfinite(x.progress)]
        if r.top1 is None or len(progresses) < WINDOW:
            return {}
        top1 = _mean([x.top1 for x in list(self.window)[-SOLVED_READINGS:] if x.top1 is not None])
        gain = _mean(progresses[WINDOW // 2 :]) - _mean(progresses[: WINDOW // 2])
        still = self.state == SATURATED  # hysteresis
        if top1 < (UNSOLVED_ACCURACY if still else SOLVED_ACCURACY) or gain >= (2 if still else 1) * STALLED_PROGRESS:
            return {}
        return dict(contrastive_top1=top1, progress=progresses[-1], gain=gain)

    def state_dict(self) -> dict:
        """Plain types, for a checkpoint."""
        plain = {name: value for name, value in vars(self).items() if name not in ('window', 'patience')}
        plain.update({name: plain[name] and asdict(plain[name]) for name in ('start', 'plain')})
        return dict(plain, worst=list(self.worst), window=[asdict(r) for r in self.window])

    def load_state_dict(self, state: dict) -> None:
        """Restore the result of :meth:`state_dict`; unknown attributes are ignored.

        Raises:
            ValueError: A value is of another type: somebody else made the checkpoint.
        """
        measured = {f.name: f.type for f in fields(Reading)}
        window = [
            Reading(**known_values(reading, measured)) for reading in known_values(state, {'window': list})['window']
        ]
        vars(self).update(known_values(state, STATE))
        self.window = deque(window, maxlen=WINDOW)
        kinds = {f.name: f.type for f in fields(Plain)}
        plain = (state.get(name) for name in ('start', 'plain'))
        self.start, self.plain = (Plain(**known_values(values, kinds)) if values else None for values in plain)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
