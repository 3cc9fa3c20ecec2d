"""Fully sharded data parallelism: every process keeps its part of all weights, gradients and optimizer states."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.model import BaseModel
from torch import Tensor, nn

from mocox.dtensor import local_part, own_parts
from mocox.registry import MODEL_WRAPPERS

# Before, a unit inside of a unit is not gathered where a backward pass computes a chunk anew. Seen with 2.10; 2.14.1 is
# right, the versions between were not tried.
CHUNKS_WITH_DTYPE = (2, 14)
DTYPES = {None: None, 'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@MODEL_WRAPPERS.register_module()
class FullyShard(nn.Module):
    """Trains a model that DistributedDataParallel's full copies would not fit, with the same numbers.

    It is torch's ``fully_shard`` (FSDP2) as an MMEngine model wrapper. A unit of sharding, whose weights are gathered
    for its forward and its backward pass and dropped after each, is a block of a backbone, what remains of a backbone,
    a projector, the predictor; those of the momentum encoder are cut in the same way, so that its moving average needs
    no communication. The statistics of BatchNorm and the keys of InfoNCE are exchanged as ever.

    Initial weights are drawn whole and alike on every process, before they are cut. Checkpoints hold whole tensors, and
    loading takes the own part of them: they are those of a run with DistributedDataParallel, of any number of
    processes.

    Source: arXiv 2304.11277; torch.distributed.fsdp.fully_shard.

    Args:
        module: The algorithm, on the device to train on.
        param_dtype: The type in which the blocks of the backbones are gathered and used: ``bfloat16`` halves what is
            sent. Use it with mixed precision (``--amp``), which computes in that type anyway. LayerNorms, all other
            weights and the sums of the gradients over processes stay in float32; over chunks, the gradients of the
            blocks are added up in this type. None means the weights' own type.
        kwargs: For ``fully_shard``.

    Raises:
        ValueError: Unknown ``param_dtype``; or one for a model in chunks, which needs torch 2.14.
        RuntimeError: Not one of several processes.
    """

    def __init__(self, module: BaseModel, param_dtype: str | None = None, **kwargs: Any) -> None:
        super().__init__()
        if param_dtype not in DTYPES:
            raise ValueError(f'model_wrapper_cfg.param_dtype={param_dtype!r}: choose one of {list(DTYPES)[1:]}')
        if not torch_dist.is_initialized():
            raise RuntimeError('FullyShard needs a process group: start the processes with tools/dist_train.sh')
        version = tuple(map(int, torch.__version__.split('.')[:2]))
        chunk_size = getattr(module, 'chunk_size', None)
        if param_dtype and chunk_size and version < CHUNKS_WITH_DTYPE:
            raise ValueError(
                f'model_wrapper_cfg.param_dtype={param_dtype!r} with model.chunk_size={chunk_size} needs torch 2.14, '
                f'this is {torch.__version__}: leave param_dtype out, or update torch'
            )
        module.init_weights()
        for tensor in module.state_dict().values():
            torch_dist.broadcast(tensor, src=0)
        # A class token is a view of all tokens; features are never written to.
        warnings.filterwarnings('ignore', 'FSDP2-wrapped module .* returned a view tensor')
        _shard(module, DTYPES[param_dtype], kwargs)
        for part in module.modules():
            part.register_load_state_dict_pre_hook(_take_own_part)
        # MMEngine would initialise once more, and then broadcast: its check for this method must find none.
        type(module).init_weights = property(_initialised)  # type: ignore[method-assign]
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """The model's."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> list:
        """The model's."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list:
        """The model's."""
        return self.module.test_step(data)


def _shard(module: nn.Module, dtype: torch.dtype | None, kwargs: dict) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    if 'mesh' not in kwargs:
        device = next(module.parameters()).device.type
        kwargs['mesh'] = torch_dist.device_mesh.init_device_mesh(device, (torch_dist.get_world_size(),))
    # The residual stream comes in float32, as without sharding; autocast chooses the types of the operations.
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    backbones = [part for name, part in module.named_modules() if name.split('.')[-1] == 'backbone']
    for backbone in backbones:
        norms: list[nn.Module] = [part for part in backbone.modules() if isinstance(part, nn.LayerNorm)]
        if dtype and norms:  # in float32, under autocast as well: one unit, gathered for the whole backbone
            fully_shard(norms, **kwargs)
        for block in blocks(backbone):
            fully_shard(block, **(dict(kwargs, mp_policy=policy) if dtype else kwargs))
    for name, part in module.named_modules():
        if name.split('.')[-1] in ('backbone', 'neck', 'predictor'):
            fully_shard(part, **kwargs)
    fully_shard(module, **kwargs)
    if hasattr(module, 'extract_feat'):  # a k-NN monitor calls it from outside, also before the first step
        if dtype:  # the blocks' weights count on autocast
            device = next(module.parameters()).device.type
            module.extract_feat = torch.autocast(device, dtype=dtype)(module.extract_feat)
        register_fsdp_forward_method(module, 'extract_feat')


def blocks(backbone: nn.Module) -> Iterator[nn.Module]:
    """The layers of a backbone that are alike: the members of its lists of modules."""
    for child in backbone.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from (block for block in child if any(True for _ in block.parameters()))


def _take_own_part(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, parameter in module._parameters.items():
        whole = state.get(prefix + name)
        if whole is None or parameter is None or hasattr(whole, 'full_tensor') or whole.shape != parameter.shape:
            continue
        with torch.no_grad():
            own_parts([parameter])[0].copy_(local_part(whole, parameter))
        state[prefix + name] = parameter  # which makes torch's own copy one onto itself


def _initialised(module: nn.Module) -> None:
    raise AttributeError('the weights were initialised before they were sharded')
