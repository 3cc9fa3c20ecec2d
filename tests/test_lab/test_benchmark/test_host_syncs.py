import torch

from lab.benchmark.host_syncs import scalar_reads


def test_every_way_to_read_a_number_counts():
    x = torch.tensor([3.0])

    def read() -> None:
        x.item()
        float(x)
        if x > 2:
            x.add_(1)

    assert scalar_reads(read) == 3
    assert scalar_reads(lambda: x * 2) == 0
