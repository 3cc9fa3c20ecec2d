"""Linear evaluation of Fast-MoCo ResNet-50 on ImageNet-1k: frozen backbone, 90 epochs of LARS.

Paper: arXiv 2207.08220, section 4, with the values of the official code. There the trust ratio also scales the bias of
the classifier, and stands outside the momentum.
Published: top-1 73.5 / 75.1 / 75.5 after 100 / 200 / 400 epochs of pre-training (official README); not re-run here.
Hardware: 4 nodes x 8 GPUs x 128 images = 4096; --auto-scale-lr adapts the learning rate to fewer.
Launch, on node R of 4: NNODES=4 NODE_RANK=R MASTER_ADDR=HOST
    tools/dist_train.sh configs/fast_moco/resnet50_linear.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='LARS', lr=0.8, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001))
auto_scale_lr = dict(enable=False, base_batch_size=4096)
train_dataloader = dict(batch_size=128)
