"""Linear evaluation of DINOv2's ViT-S/14 on your own labelled images: frozen backbone, 90 epochs.

Source: the protocol of the official code; the classes are the folders in DIR/train and DIR/val.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience.
Launch, for N classes: python tools/train.py configs/mocov3/continue_vit-small_linear.py --data-root DIR
    --pretrained CHECKPOINT --cfg-options model.head.num_classes=N
"""

_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        _delete_=True, type='TIMMBackbone', model_name='vit_small_patch14_reg4_dinov2', img_size=224,
        dynamic_img_size=True),
    head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_dataloader = dict(batch_size=64)
val_evaluator = dict(topk=(1,))
test_evaluator = dict(topk=(1,))
