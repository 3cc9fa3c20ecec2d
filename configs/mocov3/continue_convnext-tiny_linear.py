"""Linear evaluation of DINOv3's ConvNeXt-T on your own labelled images: frozen backbone, 90 epochs.

Source: the protocol of the official code; the classes are the folders in DIR/train and DIR/val.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience.
Launch, for N classes: python tools/train.py configs/mocov3/continue_convnext-tiny_linear.py --data-root DIR
    --pretrained CHECKPOINT --cfg-options model.head.num_classes=N
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(_delete_=True, type='TIMMBackbone', model_name='convnext_tiny'),
    head=dict(in_channels=768),
)
optim_wrapper = dict(optimizer=dict(lr=0.1))
train_dataloader = dict(batch_size=64)
val_evaluator = dict(topk=(1,))
test_evaluator = dict(topk=(1,))
