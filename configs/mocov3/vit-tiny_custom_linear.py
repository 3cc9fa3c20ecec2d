"""Linear evaluation of ViT-Ti/16 on your own labelled images: frozen backbone, 90 epochs.

Source: the protocol of the official code for transformers; the classes are the folders in DIR/train and DIR/val.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience.
Launch, for N classes: python tools/train.py configs/mocov3/vit-tiny_custom_linear.py --data-root DIR
    --pretrained CHECKPOINT --cfg-options model.head.num_classes=N
"""

_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=192))
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_dataloader = dict(batch_size=64)
val_evaluator = dict(topk=(1,))
test_evaluator = dict(topk=(1,))
