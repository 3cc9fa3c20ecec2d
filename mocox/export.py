"""A frozen encoder as a graph that runs without mocox: ONNX, or a program of ``torch.export``."""

import json
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mocox.checkpoint.files import newest_in, write_atomically
from mocox.checkpoint.provenance import stamp
from mocox.datasets.extras import require_extra
from mocox.datasets.resizing import Size, height_and_width
from mocox.evaluation.encoder import Encoder, LoadedEncoder, load_encoder
from mocox.evaluation.prediction import classifier_of
from mocox.models.layout import last_output
from mocox.models.necks import average_positions

OPSET = 18  # the lowest opset that torch's exporter writes without conversion
TOLERANCE = 1e-5
MAX_ONNX_BYTES = 2**31 - 2**20  # protobuf ends at 2 GiB
_MARGIN_PX = 64  # a second size to compare at is that much larger, a multiple of every usual patch


class Graph(nn.Module):
    """The exported graph: images to ``features``, and to ``scores`` where the file has a classifier.

    Args:
        encoder: Frozen, in evaluation mode.
        classifier: A linear layer on the features, or None.
        normalise: Take images of 0 to 255 and normalise them inside the graph.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, classifier: nn.Linear | None, normalise: bool) -> None:
        super().__init__()
        self.backbone, self.classifier, self.bgr = encoder.backbone, classifier, encoder.bgr
        self.normalise = normalise
        self.register_buffer('mean', encoder.data_preprocessor.mean.clone())
        self.register_buffer('std', encoder.data_preprocessor.std.clone())

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Features (B, D) of images (B, C, H, W), and class scores (B, K)."""
        if self.normalise:
            images = (images - self.mean) / self.std
        output = self.backbone(images.flip(1) if self.bgr else images)
        features = average_positions(last_output(output, type(self.backbone).__name__))
        return features if self.classifier is None else (features, self.classifier(features))

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return ['features'] if self.classifier is None else ['features', 'scores']


@dataclass(frozen=True)
class Shapes:
    """The image shapes that a graph takes.

    Args:
        channels: Channels of an image.
        size: Height and width.
        dynamic_size: Whether other heights and widths are taken too.
    """

    channels: int
    size: tuple[int, int]
    dynamic_size: bool

    def example(self, batch: int, larger: bool = False) -> Tensor:
        """Random images, levels of 0 to 255."""
        height, width = (side + _MARGIN_PX * larger for side in self.size)
        generator = torch.Generator().manual_seed(batch)
        return torch.rand(batch, self.channels, height, width, generator=generator) * 255

    def examples(self) -> list[Tensor]:
        """Inputs of one batch size, of another, and of another image size if that is dynamic."""
        return [self.example(1), self.example(3), *([self.example(2, larger=True)] if self.dynamic_size else [])]


def export(
    checkpoint: str | Path,
    out: str | Path,
    to: str = 'onnx',
    *,
    encoder: str = 'query',
    heads: int | None = None,
    prefix: str | None = None,
    config: str | Path | None = None,
    image_size: Size | None = None,
    dynamic_size: bool = False,
    normalise: bool = False,
    opset: int = OPSET,
) -> list[str]:
    """Write the encoder of a checkpoint as a graph, after comparing its outputs with ours.

    The batch may be of any size. The file is there only if its outputs for random images, of two batches and, with
    ``dynamic_size``, of two sizes, are within 1e-5 of ours, relative to the largest.

    Args:
        checkpoint: A file of any layout that :func:`mocox.checkpoint.read` recognises, or a work dir.
        out: File to write; ``.onnx`` or ``.pt2``.
        to: ``onnx`` or ``torch-export``.
        encoder: ``query`` or ``momentum``.
        heads: Number of attention heads, where the file does not tell.
        prefix: Take what is below this prefix, or in this container, of the file.
        config: See :func:`mocox.evaluation.encoder.load_encoder`.
        image_size: Side in pixels, or (height, width); by default that of pre-training.
        dynamic_size: Take images of other sizes too, where the backbone does.
        normalise: Take images of 0 to 255 and normalise them inside the graph.
        opset: Version of the operators of ONNX.

    Returns:
        How to run the result, and what to know about it.

    Raises:
        ImportError: ``onnx``, ``onnxscript`` or ``onnxruntime`` is missing; names the extra.
        ValueError: The backbone cannot be exported, or its outputs differ.
    """
    if to not in WRITERS:
        raise ValueError(f'to={to!r}: choose one of {", ".join(WRITERS)}')
    if to == 'onnx':
        for library in ('onnx', 'onnxscript', 'onnxruntime'):
            require_extra(library, '--to onnx needs', 'onnx')
    loaded = load_encoder(newest_in(checkpoint), encoder, 'backbone', config, heads, image_size, prefix)
    graph = Graph(loaded.model, classifier_of(loaded.checkpoint), normalise).eval()
    size = height_and_width(loaded.image_size)
    shapes = Shapes(loaded.pixels.num_channels, size, dynamic_size)
    _require_any_size(graph, shapes)
    metadata = _metadata(loaded, graph, shapes)
    WRITERS[to](graph, shapes, Path(out), metadata, opset)
    return [_USAGE[to](str(out), shapes), _describe(graph, shapes, opset if to == 'onnx' else None), *loaded.notes]


def default_name(checkpoint: str | Path, to: str) -> str:
    """Default name of a graph: that of the checkpoint, in the current folder."""
    return Path(newest_in(checkpoint)).stem.split('.')[0] + ENDINGS[to]


def _require_any_size(graph: Graph, shapes: Shapes) -> None:
    if not shapes.dynamic_size:
        return
    try:
        with torch.no_grad():
            graph(shapes.example(1, larger=True))
    except Exception as error:  # each backbone has its own
        reason = str(error).partition('\n')[0]
        raise ValueError(f'--dynamic-size: this backbone takes images of one size only: {reason}') from error


def _metadata(loaded: LoadedEncoder, graph: Graph, shapes: Shapes) -> dict[str, Any]:
    checkpoint = loaded.checkpoint
    preprocessor = loaded.model.data_preprocessor
    return stamp(checkpoint.kind, loaded.which, checkpoint.arch, checkpoint.meta) | dict(
        input='levels 0 to 255' if graph.normalise else 'normalised',
        mean=preprocessor.mean.flatten().tolist(),
        std=preprocessor.std.flatten().tolist(),
        channel_order='RGB',
        channels=shapes.channels,
        size=list(shapes.size),
        outputs=graph.outputs,
    )


def _dynamic(shapes: Shapes) -> dict[int, Any]:
    any_size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC} if shapes.dynamic_size else {}
    return {0: torch.export.Dim.DYNAMIC, **any_size}


def _write_onnx(graph: Graph, shapes: Shapes, out: Path, metadata: dict[str, Any], opset: int) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    if size > MAX_ONNX_BYTES:
        raise ValueError(f'{size / 2**30:.1f} GiB of weights do not fit into one ONNX file (2 GiB): --to torch-export')
    program = _quietly(
        lambda: torch.onnx.export(
            graph,
            (shapes.example(2),),
            dynamo=True,
            opset_version=opset,
            input_names=['images'],
            output_names=graph.outputs,
            dynamic_shapes=(_dynamic(shapes),),
            verbose=False,
        )
    )
    program.model.metadata_props['mocox'] = json.dumps(metadata)
    write_atomically(
        out, lambda path: program.save(path, external_data=False), lambda path: _check_onnx(path, graph, shapes, out)
    )


def _check_onnx(path: str, graph: Graph, shapes: Shapes, out: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    _compare(graph, shapes, lambda images: session.run(None, {'images': images.numpy()}), out)


def _write_program(graph: Graph, shapes: Shapes, out: Path, metadata: dict[str, Any], opset: int) -> None:
    program = _quietly(
        lambda: torch.export.export(graph, (shapes.example(2),), dynamic_shapes=(_dynamic(shapes),), strict=False)
    )
    extra = {'mocox': json.dumps(metadata)}

    def write(path: str) -> None:
        with open(path, 'wb') as file:
            torch.export.save(program, file, extra_files=extra)

    def check(path: str) -> None:
        with open(path, 'rb') as file:  # its own file, written above
            module = torch.export.load(file).module()
        _compare(graph, shapes, lambda images: [x.numpy() for x in _as_tuple(module(images))], out)

    write_atomically(out, write, check)


def _quietly(call: Callable[[], Any]) -> Any:
    """Silence the exporter's own lines; a failure is reported in one line.

    Raises:
        ValueError: The graph cannot be exported.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter('ignore')
            return call()
    except Exception as error:  # the exporters raise anything
        lines = [line.strip() for line in f'{error.__cause__ or error}'.splitlines() if line.strip()]
        raise ValueError(
            f'torch cannot export this backbone ({type(error).__name__}): {" ".join(lines[:3])}'
        ) from error


@torch.no_grad()
def _compare(graph: Graph, shapes: Shapes, run: Callable[[Tensor], list[np.ndarray]], out: Path) -> None:
    for images in shapes.examples():
        images = images if graph.normalise else (images - graph.mean) / graph.std
        for name, ours, theirs in zip(graph.outputs, _as_tuple(graph(images)), run(images), strict=True):
            scale = max(1.0, ours.abs().max().item())
            difference = (ours - torch.from_numpy(theirs)).abs().max().item() if ours.shape == theirs.shape else np.inf
            if not difference <= TOLERANCE * scale:
                raise ValueError(
                    f'{out} was not written: for images of shape {tuple(images.shape)} its {name} differ from ours by '
                    f'{difference:.2g}, and {TOLERANCE:g} of the largest, {scale:.3g}, is allowed'
                )


def _as_tuple(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)


def _describe(graph: Graph, shapes: Shapes, opset: int | None) -> str:
    height, width = shapes.size
    size = 'H, W' if shapes.dynamic_size else f'{height}, {width}'
    levels = 'levels of 0 to 255, normalised inside' if graph.normalise else 'normalised with mean and std of the file'
    version = f'opset {opset}; ' if opset else ''
    return (
        f'{version}images (B, {shapes.channels}, {size}) float32, {levels}; gives {" and ".join(graph.outputs)}; '
        'compared with ours: equal within 1e-5'
    )


def _onnx_usage(path: str, shapes: Shapes) -> str:
    zeros = f'numpy.zeros((1, {shapes.channels}, {shapes.size[0]}, {shapes.size[1]}), numpy.float32)'
    return f"onnxruntime.InferenceSession({path!r}).run(None, {{'images': {zeros}}})"


def _program_usage(path: str, shapes: Shapes) -> str:
    return (
        f'torch.export.load({path!r}).module()(torch.zeros(1, {shapes.channels}, {shapes.size[0]}, {shapes.size[1]}))'
    )


ENDINGS = {'onnx': '.onnx', 'torch-export': '.pt2'}
WRITERS: dict[str, Callable[[Graph, Shapes, Path, dict[str, Any], int], None]] = {
    'onnx': _write_onnx,
    'torch-export': _write_program,
}
_USAGE: dict[str, Callable[[str, Shapes], str]] = {'onnx': _onnx_usage, 'torch-export': _program_usage}
