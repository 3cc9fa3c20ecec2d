"""A real run: does a model learn on this machine? Its curve, and what its features are worth in the end."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from lab.benchmark.contender import quiet
from lab.gpu_day.day import Day, Notes, Piece
from lab.gpu_day.images import DATASETS, GENERATED, find_images, generate
from lab.gpu_day.journal import read_lines
from mocox.checkpoint.files import newest_in
from mocox.evaluation.pipeline import evaluate
from mocox.registry import MODELS
from mocox.run.build import build_runner
from mocox.run.options import prepare_config

RUNS = {  # config, epochs: as many as fit into four minutes
    'MoCo v2, ResNet-18': ('mocox::mocov2/resnet18_cifar10.py', 40),
    'MoCo v3, ViT-Ti/4': ('mocox::mocov3/vit-tiny_cifar10.py', 40),
}
PROTOCOLS = ['knn', 'logreg']
CURVES = ('loss', 'progress', 'knn_plain', 'grad_norm', 'time', 'data_time')
POINTS = 20  # of a curve in the report
TINY = {
    'mocov2': {
        'model.backbone.base_channels': 4, 'model.backbone.stem_channels': 4, 'model.neck.in_channels': 32,
        'model.neck.hid_channels': 16, 'model.queue_len': 64, 'model.backbone.norm_cfg.group_size': 8,
    },
    'mocov3': {
        'model.backbone.arch': dict(
            embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32, _delete_=True
        ),
        'model.backbone.patch_size': 8, 'model.neck.in_channels': 16, 'model.neck.hid_channels': 16,
        'model.neck.out_channels': 16, 'model.head.predictor.in_channels': 16,
        'model.head.predictor.hid_channels': 16, 'model.head.predictor.out_channels': 16,
    },
}  # fmt: skip


def pieces(day: Day, stage: str) -> list[Piece]:
    """A run of each method, continued from its last checkpoint when it was interrupted."""
    names = list(RUNS)[: day.size(2, 1)]
    return [Piece(name, 30, partial(_learn, day, *RUNS[name])) for name in names]


def _learn(day: Day, config: str, epochs: int, notes: Notes) -> dict[str, Any]:
    kind, folder = choose_images(day)
    work_dir = day.out / 'learning' / Path(config).stem
    settings = settings_of(day, config, DATASETS[kind], folder, epochs)
    random = _judge_random(day, config, settings, work_dir, notes)
    read = prepare_config(config, work_dir=str(work_dir), resume='auto', **settings)
    if day.tiny:
        read.default_hooks.pop('report')  # draws for seconds
    runner = build_runner(read)
    runner.train()
    state = (runner.message_hub.get_info('monitor', None) or {}).get('state', 'not judged')
    trained, curves = judge_features(day, newest_in(work_dir), read, work_dir / 'trained'), read_curves(work_dir)
    best = max(random, key=lambda name: trained[name])
    text = f'{kind}: {state}; {best} {random[best]:.1f} % with random weights, {trained[best]:.1f} % trained'
    found = dict(images=kind, epochs=runner.max_epochs, random=random, trained=trained, curves=curves)
    return found | dict(state=state, text=text)


def choose_images(day: Day) -> tuple[str, Path]:
    """The images available; a rehearsal uses few generated ones."""
    kind, folder = (GENERATED, None) if day.tiny else find_images(day.data)
    return kind, folder or generate(day.out / 'images', day.size(20_000, 80))


def settings_of(day: Day, config: str, dataset: str, folder: Path, epochs: int) -> dict[str, Any]:
    """The arguments of ``tools/train.py``."""
    method = 'mocov2' if 'mocov2' in config else 'mocov3'
    options: dict[str, Any] = {'log_level': 'WARNING', 'default_hooks.checkpoint': dict(interval=2, max_keep_ckpts=2)}
    options['train_dataloader.dataset.type'] = dataset
    options |= TINY[method] if day.tiny else {'default_hooks.logger.interval': 20}
    return dict(
        data_root=str(folder), epochs=day.size(epochs, 2), batch_size=day.size(512, 16), amp=day.device == 'cuda',
        workers=day.size(min(day.cores, 16), 0), cfg_options=options,
    )  # fmt: skip


def _judge_random(day: Day, config: str, settings: dict[str, Any], work_dir: Path, notes: Notes) -> dict[str, float]:
    """The same model before any training."""
    if 'random' not in notes.known:
        place = work_dir.with_name(f'{work_dir.name}-random')
        read = prepare_config(config, work_dir=str(place), **settings)
        torch.manual_seed(0)
        with quiet(), DefaultScope.overwrite_default_scope('mocox'):
            model = MODELS.build(read.model)
            model.init_weights()
        place.mkdir(parents=True, exist_ok=True)
        torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=read.pretty_text)), place / 'random_0.pth')
        notes.add('random', **judge_features(day, place / 'random_0.pth', read, place / 'judged'))
    return notes.known['random']


def judge_features(day: Day, checkpoint: str | Path, config: Config, work_dir: Path) -> dict[str, float]:
    """Percent of the test images, by protocol and setting."""
    report = evaluate(
        checkpoint, config.train_dataloader.dataset.data_root, PROTOCOLS, config=config, work_dir=work_dir,
        cache_dir=day.out / 'features', batch_size=day.size(512, 40), num_workers=day.size(min(day.cores, 8), 0),
        device=day.device,
    )  # fmt: skip
    return {_title(row): row['value'] for row in report['results']}


def _title(row: dict[str, Any]) -> str:
    """The setting of logistic regression is what held-out images chose, which is another one each time."""
    return f'{row["protocol"]} {row["setting"]}' if row['protocol'] == 'knn' else row['protocol']


def read_curves(work_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Of all that a run has logged; where it went on from a checkpoint, its later word counts."""
    curves: dict[str, dict[int, float]] = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in read_lines(path):
            for name in CURVES:
                if name in line:
                    curves.setdefault(name, {})[int(line['step'])] = float(line[name])
    return {name: thin(sorted(points.items())) for name, points in curves.items()}


def thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """A curve in few points, the last one among them."""
    return points[:: -max(1, len(points) // POINTS)][::-1]
