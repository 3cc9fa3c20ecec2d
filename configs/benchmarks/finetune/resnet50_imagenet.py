"""Fine-tuning of a ResNet-50 (MoCo v1, v2 or v3) on ImageNet-1k, end to end: 100 epochs of SGD.

Source: arXiv 1911.05722, appendix (ImageNet fine-tuning); the learning rate 0.03 and the steps are from memory [M].
Published: top-1 77.0 for MoCo v1 pre-trained on ImageNet-1M; not re-run here.
Hardware: one node, 8 GPUs x 32 images.
Launch: tools/dist_train.sh configs/benchmarks/finetune/resnet50_imagenet.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/finetune_resnet50.py',
    '../../_base_/datasets/imagenet_linear.py',
    '../../_base_/schedules/sgd_steps.py',
    '../../_base_/default_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.03, weight_decay=1e-4))
param_scheduler = dict(milestones=[60, 80])
train_cfg = dict(max_epochs=100)
train_dataloader = dict(batch_size=32)
