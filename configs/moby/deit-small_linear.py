"""Linear evaluation of MoBY DeiT-S/16 on ImageNet-1k: frozen backbone, 100 epochs.

Paper: arXiv 2105.04553, section 3.1, with the values of the official code, which also drops paths of the frozen
backbone while the classifier trains; here it stays in evaluation mode.
Published: top-1 72.8 (official README); not re-run here.
Hardware: one node, 8 GPUs x 64 images = 512.
Launch: tools/dist_train.sh configs/moby/deit-small_linear.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_moby.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.VisionTransformer', arch='deit-small', img_size=224, patch_size=16),
    head=dict(in_channels=384, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
)
train_dataloader = dict(batch_size=64)
