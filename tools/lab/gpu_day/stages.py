"""The stages, by worth: what is the first to know stands first. Imports nothing heavy, so that a list is instant."""

from dataclasses import dataclass

STAGE_SECONDS = 540  # at most, of any stage in one call
CALL_SECONDS = 570  # of a call where commands are ended after ten minutes
START_SECONDS = 15  # of imports


@dataclass(frozen=True)
class Stage:
    """Args: a name, what it finds out, the seconds it is expected to take on an H200, the module that does it."""

    name: str
    what: str
    seconds: int
    module: str


STAGES = (
    Stage('machine', 'versions, rates of matrix products and of memory', 20, 'machine'),
    Stage('tests', 'all tests marked gpu', 240, 'marked_tests'),
    Stage('vit', 'ViT-S/16 and ViT-B/16, batch 1024, bfloat16, against mmpretrain', 150, 'steps'),
    Stage('exact', 'ViT-B/16 at an exact batch of 4096, by chunk_size', 70, 'steps'),
    Stage('profile', 'the ten most expensive kernels, host syncs, idle time', 60, 'profiles'),
    Stage('input', 'images per second of 1 to 16 cores, and what training waits for', 180, 'feeding'),
    Stage('resnet', 'ResNet-50 of MoCo v3 and v2 against mmpretrain, channels_last', 120, 'steps'),
    Stage('switches', 'what compile and trim_last_block gain', 190, 'steps'),
    Stage('memory', 'peaks by chunk size against the model of them', 60, 'peaks'),
    Stage('learning', 'a real run with its curve, judged by k-NN and a linear classifier', 480, 'learning'),
)
NAMES = tuple(stage.name for stage in STAGES)


def choose(names: list[str] | None) -> list[Stage]:
    """The stages of these names, in the order of their worth; all by default.

    Raises:
        ValueError: No such stage.
    """
    for name in names or ():
        if name not in NAMES:
            raise ValueError(f'--stage {name}: choose among {", ".join(NAMES)}')
    return [stage for stage in STAGES if not names or stage.name in names]


def plan(stages: list[Stage], limit: int = CALL_SECONDS) -> list[list[Stage]]:
    """Calls that take no longer than ``limit`` each: a stage goes into the first that has room for it."""
    calls: list[list[Stage]] = []
    for stage in stages:
        for call in calls:
            if START_SECONDS + stage.seconds + sum(other.seconds for other in call) <= limit:
                call.append(stage)
                break
        else:
            calls.append([stage])
    return calls


def describe(stages: list[Stage], out: str) -> str:
    """The table of the stages, and the commands of calls of ten minutes."""
    lines = [f'{stage.name:<10}{stage.seconds / 60:>5.1f} min  {stage.what}' for stage in stages]
    lines.append('\nin calls of ten minutes (expected on an H200; what is not done goes on with the next call):')
    for number, call in enumerate(plan(stages), 1):
        minutes = (START_SECONDS + sum(stage.seconds for stage in call)) / 60
        names = ' '.join(stage.name for stage in call)
        command = f'python tools/gpu_day.py {out} --minutes {CALL_SECONDS / 60:g} --stage {names}'
        lines.append(f'  {number}. {minutes:.1f} min  {command}')
    return '\n'.join(lines)
