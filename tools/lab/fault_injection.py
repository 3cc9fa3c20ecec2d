"""Kills real trainings at random moments, continues them, and compares what they end in with an undisturbed run."""

import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from sklearn.datasets import load_digits

from mocox.checkpoint import durable
from mocox.configs import shipped_config
from mocox.run.build import build_runner
from mocox.run.options import prepare_config

NUM_IMAGES = 56  # 7 batches of 8: an odd number under two-fold accumulation
EPOCHS = 3
INTERVAL = 4  # iterations between two checkpoints
MOST_FAULTS = 6  # in one training
# What the registries import when a training is built.
IMPORTED = [f'mocox.{name}' for name in ('models', 'datasets', 'engine', 'monitors', 'evaluation', 'report.hook')]
PATIENCE_S = 300.0  # for what should take a second


@dataclass(frozen=True)
class Case:
    """A training: a shipped recipe made small, with something that only an exact resume gets right."""

    recipe: str
    options: dict[str, Any]
    processes: int = 1


SMALL_VIT = {
    'model.backbone.arch': dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    'model.backbone.drop_path_rate': 0.3,
    'model.neck': dict(in_channels=16, hid_channels=32, out_channels=16),
    'model.head.predictor': dict(in_channels=16, hid_channels=32, out_channels=16),
    'param_scheduler.warmup_epochs': 1,
}
SMALL_RESNET = {
    'model.backbone.base_channels': 4,
    'model.backbone.stem_channels': 4,
    'model.neck': dict(in_channels=32, hid_channels=16, out_channels=8),
    'model.feat_dim': 8,
    'model.queue_len': 40,
    'model.backbone.norm_cfg.group_size': 4,
    'param_scheduler.warmup_epochs': 1,
}
WORKERS = {'train_dataloader.num_workers': 1, 'train_dataloader.persistent_workers': True}
CASES = {
    'ViT, bfloat16, accumulation, worker': Case(
        'mocov3/vit-tiny_digits.py',
        {
            **SMALL_VIT,
            **WORKERS,
            'optim_wrapper.type': 'mocox.AmpOptimWrapper',
            'optim_wrapper.accumulative_counts': 2,
        },
    ),
    'ResNet with a queue': Case('mocov2/resnet18_digits.py', SMALL_RESNET),
    'ViT, two processes': Case('mocov3/vit-tiny_digits.py', {**SMALL_VIT, **WORKERS}, processes=2),
}


def write_images(folder: Path) -> None:
    """A few of scikit-learn's digits as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(load_digits().images[:NUM_IMAGES]):
        Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8)).save(folder / f'{index:02}.png')


def build_config(case: Case, images: Path, work_dir: Path, **options: Any) -> Config:
    """The config of ``tools/train.py RECIPE --resume auto`` for the case."""
    config = prepare_config(
        str(shipped_config(case.recipe)),
        cfg_options={
            'train_dataloader.batch_size': 8 // case.processes,
            'train_dataloader.dataset.data_prefix': '',
            'train_cfg.max_epochs': EPOCHS,
            'default_hooks.checkpoint': dict(interval=1, iter_interval=INTERVAL, max_keep_ckpts=2),
            'env_cfg.cudnn_benchmark': False,
            'log_level': 'WARNING',
            **case.options,
            **options,
        },
        launcher='none' if case.processes == 1 else 'pytorch',
        work_dir=str(work_dir),
        data_root=str(images),
        resume='auto',
    )
    config.default_hooks.pop('report', None)  # draws pictures for seconds
    return config


class Record(Hook):
    """Write the first iteration and every finished one to a file, each immediately."""

    priority = 95  # after CheckpointHook, before PreemptionHook leaves

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, kind: str, iteration: int) -> None:
        with open(self.path, 'a') as file:
            file.write(f'{kind} {iteration}\n')

    def before_train(self, runner: Runner) -> None:
        """Note the first iteration."""
        self.note('begins', runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Note the finished iteration."""
        self.note('done', runner.iter + 1)


def _train(case: Case, images: Path, work_dir: Path, attempt: Path, slow_write_s: float, rank: int) -> None:
    """Train as one of the processes."""
    torch.set_num_threads(1)
    log = os.open(work_dir / f'log_{rank}.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if case.processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(case.processes))
        torch_dist.init_process_group('gloo', f'file://{attempt}.rendezvous', None, case.processes, rank)
    record = Record(attempt)
    _watch_writes(record, slow_write_s)
    runner = build_runner(build_config(case, images, work_dir))
    if rank == 0:
        runner.register_hook(record)
    runner.train()


def _watch_writes(record: Record, slow_write_s: float) -> None:
    """Note the iteration of every intact checkpoint, and slow writing down."""
    write, verify = durable.CheckpointWriter._write, durable.verify

    def write_and_note(writer: durable.CheckpointWriter, content: dict, *arguments: Any) -> bool:
        whole = write(writer, content, *arguments)
        if whole:
            record.note('saved', content['meta']['iter'])
        return whole

    def verify_slowly(path: str) -> None:
        time.sleep(slow_write_s)
        verify(path)

    durable.CheckpointWriter._write = write_and_note
    durable.verify = verify_slowly


@dataclass
class Attempt:
    """One start of a training's processes, up to their end."""

    processes: list[BaseProcess]
    work_dir: Path
    path: Path
    start: float = field(default_factory=time.monotonic)

    def notes(self, kind: str) -> list[int]:
        """The iterations noted as ``begins``, ``done`` or ``saved``."""
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        pairs = [line.split() for line in lines if len(line.split()) == 2]
        return [int(iteration) for name, iteration in pairs if name == kind]

    def is_running(self) -> bool:
        """True if all processes are running."""
        return all(process.is_alive() for process in self.processes)

    def wait_until(self, happens: Callable[[], bool]) -> bool:
        """True if it happens before the training ends."""
        deadline = time.monotonic() + PATIENCE_S
        while self.is_running() and time.monotonic() < deadline:
            if happens():
                return True
            time.sleep(0.001)
        return False

    def end(self) -> list[int | None]:
        """Wait for the processes; their exit codes, None for those that had to be killed."""
        deadline = time.monotonic() + PATIENCE_S
        for process in self.processes:
            process.join(max(deadline - time.monotonic(), 0))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
            process.join()
        return codes


def kill(attempt: Attempt, dice: random.Random) -> None:
    """SIGKILL to all processes, as the machine's end would be."""
    for process in attempt.processes:
        process.kill()


def terminate(attempt: Attempt, dice: random.Random) -> None:
    """SIGTERM to all processes, as a cluster sends it."""
    for process in attempt.processes:
        process.terminate()


def kill_one(attempt: Attempt, dice: random.Random) -> None:
    """SIGKILL to one process of several."""
    dice.choice(attempt.processes).kill()


def terminate_one(attempt: Attempt, dice: random.Random) -> None:
    """SIGTERM to one process of several."""
    dice.choice(attempt.processes).terminate()


def kill_worker(attempt: Attempt, dice: random.Random) -> None:
    """SIGKILL to a process that loads images, as the kernel does when memory runs out."""
    workers = [child for process in attempt.processes for child in _children(process.pid)]
    if workers:
        os.kill(dice.choice(workers), signal.SIGKILL)


def kill_while_writing(attempt: Attempt, dice: random.Random) -> None:
    """SIGKILL while there is a temporary file."""
    if attempt.wait_until(lambda: any(attempt.work_dir.glob('*.tmp'))):
        time.sleep(dice.uniform(0, 0.1))
        kill(attempt, dice)


def kill_and_damage(attempt: Attempt, dice: random.Random) -> None:
    """SIGKILL, after which the newest checkpoint is found cut, with a flipped bit, zeroed in part, or empty."""
    kill(attempt, dice)
    attempt.end()
    files = sorted(attempt.work_dir.glob('*.pth'), key=lambda path: path.stat().st_mtime_ns)
    files = [path for path in files if path.stat().st_size]  # this fault may have happened before
    if files:
        content = bytearray(files[-1].read_bytes())
        place = dice.randrange(len(content))
        how = dice.choice(['cut', 'bit', 'zeros', 'empty'])
        if how == 'bit':
            content[place] ^= 1 << dice.randrange(8)
        elif how == 'zeros':
            content[place : place + 4096] = bytes(len(content[place : place + 4096]))
        files[-1].write_bytes(b'' if how == 'empty' else content[:place] if how == 'cut' else content)


Fault = Callable[[Attempt, random.Random], None]
DAMAGE = 'newest checkpoint damaged'
FAULTS: dict[str, Fault] = {
    'SIGKILL': kill,
    'SIGTERM': terminate,
    'SIGKILL to one of two processes': kill_one,
    'SIGTERM to one of two processes': terminate_one,
    'SIGKILL to a loader worker': kill_worker,
    'SIGKILL during a write': kill_while_writing,
    DAMAGE: kill_and_damage,
}


def faults_for(case: Case) -> list[str]:
    """Those that can happen to it."""
    missing = [] if case.processes > 1 else [name for name in FAULTS if 'two processes' in name]
    missing += [] if 'train_dataloader.num_workers' in case.options else ['SIGKILL to a loader worker']
    return [name for name in FAULTS if name not in missing]


def run(kills: int, seed: int = 0, work_dir: str = 'work_dirs/fault_injection') -> dict[str, Any]:
    """Injects faults until there were enough, in one training after the other.

    Args:
        kills: How many.
        seed: Of the kinds and the moments; the moments also depend on the machine.
        work_dir: Emptied first. ``fault_injection.json`` stays there, and what differed.

    Returns:
        What is in that file.
    """
    folder, dice, start = Path(work_dir).absolute(), random.Random(seed), time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    write_images(folder / 'images')
    context = multiprocessing.get_context('forkserver')  # imports once, then a fresh process takes milliseconds
    # The server passes over what it cannot find, and looks nowhere else.
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, sys.path))
    context.set_forkserver_preload([__name__, *IMPORTED])
    campaign = _Campaign(folder, context, dice, kills)
    straight = {name: campaign.train_undisturbed(name) for name in CASES}
    for number in range(10**6):
        if campaign.kills_left <= 0:
            break
        name = list(CASES)[number % len(CASES)]
        campaign.train_disturbed(name, folder / f'run_{number}', *straight[name])
    report = campaign.report() | dict(
        seed=seed,
        seconds=round(time.monotonic() - start, 1),
        machine=f'{platform.machine()}, {platform.system()}, {os.cpu_count()} CPUs',
        torch=torch.__version__,
    )
    (folder / 'fault_injection.json').write_text(json.dumps(report, indent=2) + '\n')
    return report


class _Campaign:
    def __init__(self, folder: Path, context: Any, dice: random.Random, kills: int) -> None:
        self.folder, self.context, self.dice, self.kills_left = folder, context, dice, kills
        self.injected, self.survived, self.repeated, self.problems = Counter(), Counter(), {}, []
        self.runs = 0

    def start(self, case: Case, work_dir: Path, number: int, slow_write_s: float = 0.0) -> Attempt:
        work_dir.mkdir(parents=True, exist_ok=True)
        path = work_dir / f'attempt_{number}'
        shared = (case, self.folder / 'images', work_dir, path, slow_write_s)
        processes = [self.context.Process(target=_train, args=(*shared, rank)) for rank in range(case.processes)]
        for process in processes:
            process.start()
        return Attempt(processes, work_dir, path)

    def train_undisturbed(self, name: str) -> tuple[Path, float]:
        """The final checkpoint and how long it took, in seconds."""
        work_dir = self.folder / f'straight_{list(CASES).index(name)}'
        attempt = self.start(CASES[name], work_dir, 0)
        codes = attempt.end()
        if any(code != 0 for code in codes):
            raise RuntimeError(f'{name}: the undisturbed run ended with {codes}; see {work_dir}/log_0.txt')
        return work_dir / f'epoch_{EPOCHS}.pth', time.monotonic() - attempt.start

    def train_disturbed(self, name: str, work_dir: Path, straight: Path, duration_s: float) -> None:
        """Starts, disturbs and continues a training until it is done."""
        case, happened, number, reached, saved = CASES[name], [], 0, 0, 0
        known, fault = len(self.problems), ''
        while True:
            former, fault = fault, self._draw_fault(case, len(happened))
            attempt = self.start(case, work_dir, number, 0.1 if 'write' in fault else 0.0)
            alive = bool(fault) and attempt.wait_until(self._moment(attempt, duration_s))
            if alive:
                FAULTS[fault](attempt, self.dice)
            codes = attempt.end()
            begun = attempt.notes('begins')
            if begun and happened:
                self._check_position(name, former, reached, saved, begun[0])
            reached = max([*attempt.notes('done'), *begun, 0 if begun else reached])
            saved = max([*attempt.notes('saved'), *begun[:1], 0 if begun else saved])
            if all(code == 0 for code in codes):
                break
            number += 1
            if not alive:
                self.problems.append(f'{name}: ended with {codes} without a fault; see {work_dir}')
                break
            happened.append(fault)
            self.kills_left -= 1
            self.injected[fault] += 1
            self._check_codes(name, fault, codes, work_dir)
            fault = fault if begun or fault == DAMAGE else former  # what says where the next start may begin
        self.runs += 1
        self._compare(name, work_dir, straight)
        if len(self.problems) == known:
            self.survived.update(happened)
            shutil.rmtree(work_dir)

    def _draw_fault(self, case: Case, num_before: int) -> str:
        enough = self.kills_left <= 0 or num_before >= MOST_FAULTS
        return '' if enough else self.dice.choice(faults_for(case))

    def _moment(self, attempt: Attempt, duration_s: float) -> Callable[[], bool]:
        """A random one, while the processes start, train, save or end."""
        at = attempt.start + self.dice.uniform(0, duration_s)
        return lambda: time.monotonic() >= at

    def _check_codes(self, name: str, fault: str, codes: list[int | None], work_dir: Path) -> None:
        if None in codes:
            self.problems.append(f'{name}, {fault}: a process did not end within {PATIENCE_S:.0f} s; see {work_dir}')

    def _check_position(self, name: str, fault: str, reached: int, saved: int, begun: int) -> None:
        """No checkpoint that was whole is lost, but by damaging it."""
        self.repeated.setdefault(fault, []).append(reached - begun)
        if begun < saved and fault != DAMAGE:
            self.problems.append(f'{name}, {fault}: saved at {saved}, but continued at {begun}')

    def _compare(self, name: str, work_dir: Path, straight: Path) -> None:
        path = work_dir / straight.name
        if not path.is_file():
            self.problems.append(f'{name}: {path} is missing')
            return
        differences = list(compare(*(torch.load(file, weights_only=True) for file in (path, straight))))
        self.problems += [f'{name}: {difference} differs in {path}' for difference in differences[:5]]

    def report(self) -> dict[str, Any]:
        rows = {
            fault: dict(
                injected=self.injected[fault],
                survived=self.survived[fault],
                most_repeated=max(self.repeated.get(fault, [0])),
            )
            for fault in FAULTS
        }
        return dict(faults=rows, runs=self.runs, interval=INTERVAL, problems=self.problems)


def compare(one: dict, other: dict) -> Iterator[str]:
    """The names of what is not equal, bit for bit, of all that training changes."""
    for key in ('state_dict', 'optimizer', 'param_schedulers', 'exact_resume'):
        yield from _differences(key, _without_run(one[key]), _without_run(other[key]))
    histories = [content['message_hub']['log_scalars']['train/loss']._log_history for content in (one, other)]
    if not np.array_equal(*histories):
        yield 'the history of the loss'


def _without_run(part: Any) -> Any:
    return {key: value for key, value in part.items() if key != 'run'} if isinstance(part, dict) else part


def _differences(name: str, one: Any, other: Any) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _differences(f'{name}.{key}', one[key], other[key])
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _differences(f'{name}.{index}', *pair)
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield name
    elif one != other:
        yield name


def format_report(report: dict[str, Any]) -> str:
    """The table for people."""
    lines = [f'{"fault":34}{"injected":>9}{"survived":>9}{"most iterations repeated":>26}']
    lines += [
        f'{fault:34}{row["injected"]:9}{row["survived"]:9}{row["most_repeated"]:26}'
        for fault, row in report['faults'].items()
    ]
    total = sum(row['injected'] for row in report['faults'].values())
    lines.append(
        f'{total} faults in {report["runs"]} trainings, a checkpoint every {report["interval"]} iterations, '
        f'{report["seconds"]:.0f} s'
    )
    same = 'All ended in exactly the weights, optimizer, schedules, generators and losses of the undisturbed runs.'
    return '\n'.join([*lines, *(report['problems'] or [same])])


def _children(pid: int | None) -> list[int]:
    """Processes started by a process (Linux)."""
    found = []
    for path in Path(f'/proc/{pid}/task').glob('*/children'):
        try:
            found += [int(child) for child in path.read_text().split()]
        except OSError:
            continue  # that thread has ended
    return found


def main(kills: int, seed: int, work_dir: str) -> None:
    """Runs, prints the table, and exits with 1 if anything was lost."""
    report = run(kills, seed, work_dir)
    print(format_report(report))
    sys.exit(1 if report['problems'] else 0)
