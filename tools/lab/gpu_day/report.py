"""``OUT/report.md``: the tables of the documentation, filled with what has been measured so far."""

from typing import Any

from lab.benchmark.report import table
from lab.gpu_day.day import Day
from lab.gpu_day.journal import Journal
from lab.gpu_day.stages import STAGES

GIB = 2**30
OPEN = 'open'
Results = dict[str, dict[str, dict[str, Any]]]


def write_report(day: Day) -> None:
    """Write it anew."""
    journals = {stage.name: Journal(day.out / f'{stage.name}.jsonl') for stage in STAGES}
    found: Results = {name: journal.results() for name, journal in journals.items()}
    parts = ['# What a GPU was measured to do', *_rehearsal(day), _machine(found), _targets(found), _steps(found)]
    parts += [_tests(found, journals['tests']), _profiles(found), _input(found), _memory(found), _learning(found)]
    parts.append(_open(journals))
    temporary = day.out / 'report.md.new'
    temporary.write_text('\n\n'.join(part for part in parts if part) + '\n', encoding='utf-8')
    temporary.replace(day.out / 'report.md')


def _rehearsal(day: Day) -> list[str]:
    return ['**A rehearsal: no number below means anything.**'] if day.tiny or day.device == 'cpu' else []


def _machine(found: Results) -> str:
    about = found['machine'].get('versions')
    if not about:
        return ''
    versions = ', '.join(f'{name} {number}' for name, number in about['versions'].items())
    lines = [f'Machine: {about["device"]}, {about["cores"]} cores, {about["system"]}; {versions}.']
    rates = found['machine'].get('rates')
    if rates:
        rows = [[name, f'{rate / 1e12:.4g}'] for name, rate in rates['matrix'].items()]
        lines += [table(['matrix product, square', 'TFLOP/s'], rows), f'Memory: {rates["memory"] / 1e9:.0f} GB/s.']
    return '\n\n'.join(lines)


def _targets(found: Results) -> str:
    """The table of ``docs/benchmarks.md``."""
    small, base = found['vit'].get('ViT-S/16, 1024'), found['vit'].get('ViT-B/16, 1024, chunk_size=512')
    whole, exact = found['vit'].get('ViT-B/16, 512 whole'), found['exact'].get('ViT-B/16, 4096')
    real = found['input'].get('real run')
    rows = [
        ['ViT-S/16, 224 px, bfloat16, against mmpretrain in float16', '1024', '1.5 x, 35 % of the matrix rate',
         _row(small)],
        ['ViT-B/16, the same, chunk_size=512', '1024', '1.5 x, 48 %', _row(base)],
        ['ViT-B/16, the same, whole', '512', '1.5 x, 48 %', _row(whole)],
        ['ViT-B/16, exact batch by `chunk_size`', '4096', '75 % of the images per second at 1024',
         f'{exact["ratio"]:.0%}, {exact["4096"]["ours"]:.0f} images/s' if exact else OPEN],
        ['momentum update and optimizer together, ViT-S/16', '1024', '3 % of the step',
         f'{small["update_share"]:.1%}' if small else OPEN],
        ['end to end from JPEGs, ViT-S/16', '1024', 'the GPU waits less than 5 %',
         f'{real["waiting"]:.1%}, {real["rate"]:.0f} images/s with {real["workers"]} workers' if real else OPEN],
    ]  # fmt: skip
    return '## Targets\n\n' + table(['', 'batch', 'target', 'measured'], rows)


def _row(result: dict[str, Any] | None) -> str:
    if not result:
        return OPEN
    ratio = 'no ratio'
    if result['ratio']:
        ratio = f'{result["ratio"]:.2f} x ({result["ratio_min"]:.2f}-{result["ratio_max"]:.2f})'
    remark = f' ({result["remark"]})' if result['remark'] else ''
    return f'{ratio}, {result["share_of_limit"]:.1%}, {result["ours"]:.0f} images/s{remark}'


def _steps(found: Results) -> str:
    results = {name: result for stage in ('vit', 'resnet', 'switches') for name, result in found[stage].items()}
    if not results:
        return ''
    rows = []
    for name, result in results.items():
        parts = result['details']['milliseconds']
        rows.append([name, _row(result), *(_times(parts[part]) for part in parts), f'{result["update_share"]:.1%}'])
    parts = next(iter(results.values()))['details']['milliseconds']
    header = ['', 'ratio, of the matrix rate', *(f'{part}, ms' for part in parts), 'update and optimizer']
    return '## Training steps\n\nMilliseconds of ours / of mmpretrain.\n\n' + table(header, rows)


def _times(part: dict[str, Any]) -> str:
    return ' / '.join(f'{part[name]:.2f}' for name in ('ours', 'mmpretrain') if name in part)


def _tests(found: Results, journal: Journal) -> str:
    result = found['tests'].get('marked gpu')
    if not result:
        return ''
    failed = [f'- `{name}`: {reason.splitlines()[-1] if reason else ""}' for name, reason in result['failed'].items()]
    return '\n'.join(['## Tests marked gpu', '', result['text'], *failed])


def _profiles(found: Results) -> str:
    parts = []
    for name, result in found['profile'].items():
        rows = [
            [row['name'][:90], str(row['calls']), f'{row["us"] / 1e3:.2f}', f'{row["share"]:.1%}']
            for row in result['top']
        ]
        about = (
            f'step {result["step_ms"]:.1f} ms, device busy {result["busy"]:.0%}, host syncs {result["syncs"] or "none"}'
        )
        parts.append(f'{name}: {about}\n\n' + table(['kernel', 'calls', 'ms', 'share'], rows))
    return '\n\n'.join(['## Profile of a step', *parts]) if parts else ''


def _input(found: Results) -> str:
    rates = {result['workers']: result['rate'] for name, result in found['input'].items() if name.endswith(' cores')}
    if not rates:
        return ''
    one = rates[min(rates)] / min(rates)
    rows = [[str(n), f'{rate:.0f}', f'{rate / n:.0f}', f'{rate / n / one:.0%}'] for n, rate in sorted(rates.items())]
    text = '## Input pipeline\n\n' + table(['loading processes', 'images/s', 'per process', 'efficiency'], rows)
    real, steps = found['input'].get('real run'), found['vit'].get('ViT-S/16, 1024')
    if real:
        text += f'\n\nA real run of ViT-S/16: {real["text"]}.'
    if real and steps:
        text += f' The step alone takes {steps["ours"]:.0f} images/s.'
    return text


def _memory(found: Results) -> str:
    rows = []
    for model, result in found['memory'].items():
        computed = result['details']['computed']
        for name, peak in result['details']['peaks'].items():
            expected = computed.get(name)
            error = [f'{expected / GIB:.2f}', f'{expected / peak - 1:+.1%}'] if expected else ['-', '-']
            rows.append([f'{model}: {name}', f'{peak / GIB:.2f}', *error])
    return '## Memory\n\n' + table(['', 'peak, GiB', 'computed, GiB', 'error'], rows) if rows else ''


def _learning(found: Results) -> str:
    parts = []
    for name, result in found['learning'].items():
        rows = [[kind, f'{value:.1f}', f'{result["trained"][kind]:.1f}'] for kind, value in result['random'].items()]
        curve = ', '.join(f'{iteration}: {value:.3f}' for iteration, value in result['curves'].get('loss', []))
        knn = ', '.join(f'{iteration}: {value:.1f} %' for iteration, value in result['curves'].get('knn_plain', []))
        parts += [
            f'{name} on {result["images"]}, {result["epochs"]} epochs: {result["state"]}',
            table(['test images, %', 'random weights', 'trained'], rows),
            f'Loss by iteration: {curve}.' + (f'\n\nk-NN while training: {knn}.' if knn else ''),
        ]
    return '\n\n'.join(['## A real run', *parts]) if parts else ''


def _open(journals: dict[str, Journal]) -> str:
    lines = [
        f'- {name}: {piece}: {why}' for name, journal in journals.items() for piece, why in journal.failures().items()
    ]
    begun = [name for name, journal in journals.items() if not journal.lines]
    lines += [f'- {name}: not begun' for name in begun]
    return '\n'.join(['## Open', '', *lines]) if lines else ''
