"""Linear evaluation of ResNet-50 on your own labelled images: frozen backbone, 100 epochs.

Source: the protocol of the official code of MoCo v2; the classes are the folders in DIR/train and DIR/val.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience.
Launch, for N classes: python tools/train.py configs/mocov2/resnet50_custom_linear.py --data-root DIR
    --pretrained CHECKPOINT --cfg-options model.head.num_classes=N
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_100e.py',
    '../_base_/default_runtime.py',
]
auto_scale_lr = dict(enable=True)
train_dataloader = dict(batch_size=64)
val_evaluator = dict(topk=(1,))
test_evaluator = dict(topk=(1,))
