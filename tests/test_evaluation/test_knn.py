"""The k-NN classifier against loops, against scikit-learn, and on cases whose answer is known."""

from math import exp

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mocox.evaluation import knn_classify, nearest_neighbours


@pytest.fixture
def data():
    """Three overlapping classes of 30 directions with different lengths, and 20 queries."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(3, 8, generator=generator)
    labels = torch.arange(90) % 3
    bank = (centres[labels] + torch.randn(90, 8, generator=generator)) * torch.rand(90, 1, generator=generator)
    return 5 * torch.randn(20, 8, generator=generator), bank, labels


def vote(query, bank, labels, k, temperature):
    """The definition, one query at a time in float64."""
    similarities = [float(query.double() @ row / query.double().norm() / row.norm()) for row in bank.double()]
    votes = dict.fromkeys(labels.tolist(), 0.0)
    for row in sorted(range(len(bank)), key=lambda row: -similarities[row])[:k]:
        votes[int(labels[row])] += exp(similarities[row] / temperature)
    return max(votes, key=votes.get)


@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 0.5), (90, 0.1)])
def test_is_the_weighted_vote(data, k, temperature):
    queries, bank, labels = data
    expected = [vote(query, bank, labels, k, temperature) for query in queries]
    assert knn_classify(queries, bank, labels, k, temperature).tolist() == expected


def test_agrees_with_scikit_learn(data):
    queries, bank, labels = data
    oracle = KNeighborsClassifier(20, weights=lambda distance: np.exp((1 - distance) / 0.07), metric='cosine')
    oracle.fit(bank.numpy(), labels.numpy())
    assert knn_classify(queries, bank, labels).tolist() == oracle.predict(queries.numpy()).tolist()


@pytest.mark.parametrize('block_size', [1, 7, 20, 89])
@pytest.mark.parametrize('leave_one_out', [False, True])
def test_blocks_do_not_change_the_neighbours(data, block_size, leave_one_out):
    queries, bank, _ = data
    features = bank if leave_one_out else queries
    similarities, rows = nearest_neighbours(features, bank, 20, leave_one_out)
    in_blocks, rows_in_blocks = nearest_neighbours(features, bank, 20, leave_one_out, block_size)
    assert torch.equal(rows_in_blocks, rows)
    torch.testing.assert_close(in_blocks, similarities)


@pytest.mark.parametrize('block_size', [5, 7, 64, 4096])
@pytest.mark.parametrize('leave_one_out', [False, True])
def test_of_equal_similarities_the_first_rows_count(block_size, leave_one_out):
    """Corners of a cube: products of 16 halves are exact, so most similarities are tied. Oracle: a stable sort."""
    corners = torch.randint(0, 2, (150, 4), generator=torch.Generator().manual_seed(0)).repeat(1, 4) * 2.0 - 1
    bank, queries = corners, corners if leave_one_out else -corners[:40]
    _, rows = nearest_neighbours(queries, bank, 30, leave_one_out, block_size)
    for number, query in enumerate(queries):
        similarities = (bank.double() @ query.double() / 16).tolist()
        candidates = [row for row in range(150) if not (leave_one_out and row == number)]
        assert rows[number].tolist() == sorted(candidates, key=lambda row: -similarities[row])[:30]


def test_leave_one_out_is_a_bank_without_the_row(data):
    _, bank, labels = data
    others = [torch.arange(90) != row for row in range(90)]
    expected = [int(knn_classify(bank[row : row + 1], bank[kept], labels[kept], 7)) for row, kept in enumerate(others)]
    assert knn_classify(bank, bank, labels, 7, leave_one_out=True, block_size=32).tolist() == expected


def test_a_close_neighbour_outvotes_two_far_ones():
    """Similarities 1, 0, 0 for one class against two: weights exp(1 / T) and 2; they cross at T = 1 / ln 2 = 1.44."""
    bank, labels = torch.eye(3), torch.tensor([4, 2, 2])
    assert knn_classify(bank[:1], bank, labels, 3, temperature=1.4).tolist() == [4]
    assert knn_classify(bank[:1], bank, labels, 3, temperature=1.5).tolist() == [2]


def test_tiny_temperature_does_not_overflow(data):
    queries, bank, labels = data
    nearest = labels[nearest_neighbours(queries, bank, 1)[1][:, 0]]
    assert torch.equal(knn_classify(queries, bank, labels, 20, temperature=1e-5), nearest)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(num_neighbours=91), 'num_neighbours=91.*the 90 rows'),
        (dict(num_neighbours=0), 'num_neighbours=0'),
        (dict(temperature=0), 'temperature=0'),
        (dict(bank_labels=torch.zeros(5)), '5 labels for a bank of 90'),
        (dict(leave_one_out=True), '20 features for 90 rows'),
    ],
)
def test_refuses_what_makes_no_sense(data, changes, message):
    queries, bank, labels = data
    with pytest.raises(ValueError, match=message):
        knn_classify(**dict(features=queries, bank=bank, bank_labels=labels) | changes)


def test_leave_one_out_has_one_row_less_to_choose_from(data):
    _, bank, labels = data
    with pytest.raises(ValueError, match='the 89 rows'):
        knn_classify(bank, bank, labels, 90, leave_one_out=True)
