"""Every place where the kind of a device decides, and the test that goes there, or the stage of tools/gpu_day.py."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import mocox
from lab.gpu_day.stages import NAMES
from mocox.auto import Machine
from mocox.doctor.speed import _wrapper_config, free_memory_mb
from mocox.engine.progress_hook import _memory
from mocox.evaluation.encoder import choose_device
from mocox.models.data_preprocessor import ViewsPreprocessor
from mocox.processes import launch
from mocox.randomness import generator_states, set_generator_states
from mocox.report.environment import describe_environment
from mocox.run.build import _drop_refused
from tests.support.pretended import PretendedGPU

ROOT = Path(mocox.__file__).parent
KINDS = {'cuda', 'cpu', 'mps', 'meta', 'xpu'}
MODULES = ('torch.cuda.', 'torch.backends.', 'torch.accelerator.', 'torch.mps.')


def dotted(node: ast.AST) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return '.'.join([*([node.id] if isinstance(node, ast.Name) else []), *reversed(parts)])


def is_branch(node: ast.AST) -> bool:
    """Whether a node asks for the kind of a device, or for what only one kind has."""
    if isinstance(node, ast.Attribute):
        return node.attr in ('is_cuda', 'is_cpu', 'is_mps', 'is_meta') or dotted(node).startswith(MODULES)
    if isinstance(node, ast.Compare):
        constants = {x.value for x in ast.walk(node) if isinstance(x, ast.Constant)}
        return bool(KINDS & {x for x in constants if isinstance(x, str)})
    return isinstance(node, ast.Call) and dotted(node.func).split('.')[-1] == 'get_device'


def places(node: ast.AST, place: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if is_branch(child):
            yield place
        is_named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from places(child, f'{place}.{child.name}' if is_named else place)


def found() -> set[str]:
    return {
        place
        for path in ROOT.rglob('*.py')
        if '.mim' not in path.parts
        for place in places(ast.parse(path.read_text()), '.'.join(path.relative_to(ROOT).with_suffix('').parts))
    }


OPEN = 'open: no test goes there yet'
PROVEN = {
    'augment.batched.to_device': 'test_augment/test_batched.py::test_gpu_equals_cpu_and_never_waits',
    'auto.Machine.here': 'test_device_branches.py::test_what_is_told_of_a_gpu',
    'checkpoint.bombs.refuse_inflated': 'test_checkpoint/test_files.py::test_tensors_that_claim_more_than_they_hold',
    'checkpoint.files.open_pickle': 'test_checkpoint/test_files.py::test_tensors_that_claim_more_than_they_hold',
    'checkpoint.loading.diverged_in': 'test_checkpoint/test_kinds_of_files.py::test_weights_of_a_run_that_diverged',
    'doctor.__init__.examine': OPEN,
    'doctor.speed._synchronize': 'test_gpu/test_runs.py::test_the_doctor_times_a_step',
    'doctor.speed._wrapper_config': 'test_device_branches.py::test_the_doctor_times_float16_where_it_runs',
    'doctor.speed.free_memory_mb': 'test_device_branches.py::test_what_is_told_of_a_gpu',
    'doctor.speed.measure': 'test_gpu/test_runs.py::test_the_doctor_times_a_step',
    'engine.lars.LARS.step': 'test_models/test_steps_on_a_pretended_gpu.py::test_optimizers',
    'engine.opening.describe_run': 'gpu_day input',
    'engine.optim_wrapper.AmpOptimWrapper.__init__': 'test_models/test_steps_on_a_pretended_gpu.py::test_optimizers',
    'engine.progress_hook._memory': 'test_device_branches.py::test_what_is_told_of_a_gpu',
    'evaluation.encoder.choose_device': 'test_device_branches.py::test_what_is_told_of_a_gpu',
    'models.batch_norm._kernels': 'test_models/test_batch_norm.py::test_formulas_take_what_the_kernels_for_gpus_take',
    'models.data_preprocessor.ViewsPreprocessor._pays_to_fuse': 'test_device_branches.py::test_augmentation_is_fused',
    'models.data_preprocessor.ViewsPreprocessor.augments_in_workers': (
        'test_device_branches.py::test_workers_do_not_augment_for_a_gpu'
    ),
    'models.parts.feature_width': 'test_configs/test_resolve_and_build.py::test_model_builds_on_the_meta_device',
    'monitors.bad_step.StepRecorder.begin': (
        'test_gpu/test_runs.py::test_a_run_with_its_monitor_and_a_bad_step_that_is_repeated'
    ),
    'monitors.bad_step.replay_step': (
        'test_gpu/test_runs.py::test_a_run_with_its_monitor_and_a_bad_step_that_is_repeated'
    ),
    'monitors.signals.effective_rank': 'test_monitors/test_signals.py::test_apples_gpus_are_asked_for_no_eigenvalues',
    'monitors.stability_hook.StabilityHook.before_train': (
        'test_monitors/test_stability_hook.py::test_a_late_reader_gets_the_same_weights'
    ),
    'monitors.stability_hook._start_copy': (
        'test_gpu/test_runs.py::test_a_run_with_its_monitor_and_a_bad_step_that_is_repeated'
    ),
    'processes.group.start': 'test_dist.py::test_backend_and_device',
    'processes.launch.launch': 'test_device_branches.py::test_threads_are_shared_without_a_gpu_alone',
    'randomness.generator_states': 'test_device_branches.py::test_the_generator_of_a_gpu_is_kept_and_put_back',
    'randomness.set_generator_states': 'test_device_branches.py::test_the_generator_of_a_gpu_is_kept_and_put_back',
    'report.environment.describe_environment': 'test_device_branches.py::test_what_is_told_of_a_gpu',
    'run.build._drop_refused': 'test_device_branches.py::test_memory_is_pinned_for_a_gpu',
    'run.options._use_mixed_precision': 'test_cli.py::test_amp_chooses_what_the_device_can',
}
TESTS = Path(__file__).parent


def test_every_branch_is_exercised_or_listed():
    assert found() == set(PROVEN)


@pytest.mark.parametrize('proof', sorted(set(PROVEN.values()) - {OPEN}))
def test_what_exercises_them_is_there(proof):
    if proof.startswith('gpu_day '):
        assert proof.removeprefix('gpu_day ') in NAMES
    else:
        path, _, name = proof.partition('::')
        assert f'\ndef {name}(' in (TESTS / path).read_text()


@pytest.fixture
def gpu(monkeypatch) -> dict:
    """What torch tells of a GPU that is not there; its generator's state."""
    told = dict(state=torch.arange(16, dtype=torch.uint8))
    for name, value in dict(
        is_available=lambda: True,
        get_device_name=lambda device=None: 'Pretended 4000',
        get_device_properties=lambda device: SimpleNamespace(total_memory=24e9),
        max_memory_allocated=lambda: 3 * 2**30,
        mem_get_info=lambda: (5 * 2**30, 24e9),
        get_rng_state=lambda: told['state'].clone(),
        set_rng_state=lambda state: told.update(state=state),
    ).items():
        monkeypatch.setattr(torch.cuda, name, value)
    return told


def test_what_is_told_of_a_gpu(gpu):
    machine = Machine.here()
    assert (machine.device, machine.memory_gb, machine.name) == ('GPU', 24, 'Pretended 4000')
    assert free_memory_mb() == 5 * 1024
    assert '3.0 GB' in _memory()
    assert choose_device(None).type == 'cuda' and choose_device('cpu').type == 'cpu'
    assert describe_environment(1, 'cuda')['device'] == 'Pretended 4000' != describe_environment(1, 'cpu')['device']


@pytest.mark.parametrize('name', ['mps', 'xpu', 'cuda', 'cuda:1'])
def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch, name):
    kind = getattr(torch, name.partition(':')[0])
    monkeypatch.setattr(kind, 'is_available', lambda: False)
    with pytest.raises(ValueError, match=f"device '{name}': torch finds no such device"):
        choose_device(name)
    monkeypatch.setattr(kind, 'is_available', lambda: True)
    assert str(choose_device(name)) == name


def test_a_device_that_torch_does_not_know_is_refused():
    with pytest.raises(ValueError, match="device 'gpu' is not a device of torch"):
        choose_device('gpu')


def test_the_generator_of_a_gpu_is_kept_and_put_back(gpu, monkeypatch):
    states = generator_states()
    expected, gpu['state'] = gpu['state'], torch.zeros(16, dtype=torch.uint8)
    set_generator_states(states)
    assert torch.equal(gpu['state'], expected)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert 'cuda' not in generator_states()
    gpu['state'] = None
    set_generator_states(states)  # a checkpoint of a GPU goes on without one
    assert gpu['state'] is None


def test_memory_is_pinned_for_a_gpu(gpu):
    loader = dict(pin_memory=True)
    _drop_refused(loader)
    assert loader == dict(pin_memory=True)


@pytest.mark.parametrize(('available', 'threads'), [(False, '2'), (True, None)])
def test_threads_are_shared_without_a_gpu_alone(available, threads, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: available)
    monkeypatch.setattr(os, 'cpu_count', lambda: 4)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(launch, '_serve', lambda options: None)
    monkeypatch.setattr('torch.distributed.run.main', lambda arguments: None)
    launch.launch(['--nproc-per-node=2', 'script.py'])
    assert os.environ.get('OMP_NUM_THREADS') == threads


def test_the_doctor_times_float16_where_it_runs():
    recipe = SimpleNamespace(optim_wrapper=dict(type='AmpOptimWrapper', dtype='float16'))
    assert [_wrapper_config(recipe, device)['dtype'] for device in ('cpu', 'cuda')] == ['bfloat16', 'float16']


def preprocessor(kind: str) -> ViewsPreprocessor:
    part = ViewsPreprocessor(mean=[0.0] * 3, std=[1.0] * 3, views=[dict(flip_prob=0.5), dict(blur_prob=0.5)])
    part._device = torch.device(kind)
    return part


def test_workers_do_not_augment_for_a_gpu():
    assert [preprocessor(kind).augments_in_workers(2) for kind in ('cpu', 'cuda')] == [True, False]


def test_augmentation_is_fused():
    """On a GPU, where a view has more than a flip."""
    part = preprocessor('cuda')
    assert [part._pays_to_fuse(torch.zeros(1), view) for view in part.views] == [False, False]
    on_gpu = PretendedGPU().tensor(1)
    assert [part._pays_to_fuse(on_gpu, view) for view in part.views] == [False, True]
