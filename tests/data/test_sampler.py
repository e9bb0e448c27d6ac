import pytest

from codebind_hf.data import ModalityBatchSampler, NineSenses


BRIDGE, TARGET = ("text", "image"), ("text", "image", "eeg")
NAMES = [BRIDGE] * 50 + [TARGET] * 22


def sampler(**changes: object) -> ModalityBatchSampler:
    return ModalityBatchSampler(NAMES, **{"batch_size": 8, "modalities": NAMES, **changes})


def test_every_batch_has_one_set_of_modalities_and_every_row_occurs_once() -> None:
    batches = list(sampler())
    assert sorted(index for batch in batches for index in batch) == list(range(72))
    assert all(len({NAMES[index] for index in batch}) == 1 for batch in batches)
    assert len(batches) == len(sampler()) == 7 + 3


def test_drop_last_leaves_out_small_batches() -> None:
    batches = list(sampler(drop_last=True))
    assert len(batches) == len(sampler(drop_last=True)) == 6 + 2
    assert all(len(batch) == 8 for batch in batches)


def test_sets_of_modalities_are_spread_over_the_epoch() -> None:
    kinds = [NAMES[batch[0]] for batch in sampler(batch_size=2)]
    for part in (kinds[:18], kinds[18:]):
        # 11 of 36 batches are targets, so about 5.5 in each half.
        assert 4 <= part.count(TARGET) <= 7


def test_the_same_seed_and_epoch_give_the_same_batches() -> None:
    first, second, other = sampler(seed=1), sampler(seed=1), sampler(seed=2)
    assert list(first) == list(second) == list(first)
    assert list(first) != list(other)
    second.set_epoch(1)
    assert list(first) != list(second)
    second.set_epoch(0)
    assert list(first) == list(second)


@pytest.mark.parametrize("num_processes", [2, 3, 5])
def test_the_processes_of_a_round_see_the_same_modalities_and_as_many_rows(num_processes: int) -> None:
    of_processes = sampler(num_processes=num_processes)
    batches = list(of_processes)
    assert len(batches) == len(of_processes)
    assert {index for batch in batches for index in batch} == set(range(72))
    for start in range(0, len(batches), num_processes):
        together = batches[start : start + num_processes]
        assert len({NAMES[index] for batch in together for index in batch}) == 1
        sizes = [len(batch) for batch in together]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= 8


def test_fewer_rows_than_processes_are_repeated() -> None:
    assert list(ModalityBatchSampler([{}] * 2, 4, modalities=[("text",)] * 2, num_processes=3))[2][0] in (0, 1)


def test_whole_rounds_are_left_out_with_drop_last() -> None:
    batches = list(sampler(num_processes=2, drop_last=True))
    assert [len(batch) for batch in batches] == [8] * len(batches)
    # 3 rounds of 16 of the 50 rows, 1 of the 22.
    assert len(batches) == len(sampler(num_processes=2, drop_last=True)) == 8


def test_modalities_are_found_in_rows() -> None:
    rows = NineSenses("train", num_bridge=4, num_target=2, modalities=["text", "eeg"])
    assert ModalityBatchSampler(rows, 2).groups == {("text",): [0, 1, 2, 3], ("text", "eeg"): [4, 5]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"batch_size": 0}, "batch_size: got 0", id="zero"),
        pytest.param({"batch_size": 2.0}, "batch_size: got 2.0", id="float"),
        pytest.param({"num_processes": 0}, "num_processes: got 0", id="processes"),
        pytest.param({"modalities": NAMES[:3]}, "modalities: got 3 entries for 72 rows", id="length"),
    ],
)
def test_wrong_arguments_of_the_sampler_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(**changes)
