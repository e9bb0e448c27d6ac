"""Which things are held out, by seed: objects by name, people by person, trials as their package parts them."""

from collections.abc import Mapping, Sequence

import numpy as np
from things import Thing, groups_of


SHARE = 0.2
# Objects whose names count together: a chair that is held out in one is held out in the other.
OBJECTS = ("stamps", "furniture")
_SUBJECTS = 2


def held_out(things: Mapping[str, Sequence[Thing]], seed: int, by: str = "name") -> dict[str, np.ndarray]:
    """By collection, whether each thing is a test item `(things,)`.

    Names are drawn in an order of the seed until a fifth of each collection's things is held out; names whose plain
    names are equal (`things.groups_of`) stay together, over collections. Of IMU two people are held out; of EEG what
    the package calls the test part, whatever the seed.

    Raises:
        ValueError: an unknown `by`.
    """
    generator = np.random.default_rng(seed)
    present = [name for name in OBJECTS if name in things]
    groups = np.array(groups_of([thing.name for name in present for thing in things[name]], by), dtype=int)
    owner = np.array([name for name in present for _ in things[name]])
    chosen: set[int] = set()
    order = generator.permutation(groups.max(initial=-1) + 1)
    for name in present:
        own = groups[owner == name]
        for group in order:
            if np.isin(own, list(chosen)).mean() >= SHARE:
                break
            # A kind of thing that alone is a fifth, such as letters, would be all that is held out.
            if (own == group).any() and (own == group).mean() < SHARE / 2:
                chosen.add(int(group))
    masks = {name: np.isin(groups[owner == name], list(chosen)) for name in present}
    if "imu" in things:
        subjects = np.array([thing.attributes["subject"] for thing in things["imu"]])
        masks["imu"] = np.isin(subjects, generator.permutation(np.unique(subjects))[:_SUBJECTS])
    if "eeg" in things:
        masks["eeg"] = np.array([thing.attributes["part"] == "test" for thing in things["eeg"]])
    return masks


def numbers_of(text: str) -> list[int]:
    """`0-2,5` as `[0, 1, 2, 5]`, and nothing of an empty text."""
    ends = [part.partition("-") for part in text.split(",") if part]
    return [number for first, _, last in ends for number in range(int(first), int(last or first) + 1)]
