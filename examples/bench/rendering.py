"""How long does one NineSenses object take? Milliseconds per modality and for all nine together, on one core.

    OMP_NUM_THREADS=1 python examples/bench/rendering.py --objects 300

Expected on a laptop core: about 4 to 6 ms for all nine modalities of an object.
"""

import argparse
import time

from codebind_hf.data import NineSenses


def milliseconds(data: NineSenses) -> float:
    """Mean time per row, the caches of constant grids being warm."""
    data[0]
    start = time.perf_counter()
    for index in range(len(data)):
        data[index]
    return (time.perf_counter() - start) / len(data) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=300, help="objects to render")
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--difficulty", default="default", help="easy, default or hard")
    options = parser.parse_args()

    arguments = {"world": options.world, "difficulty": options.difficulty, "num_rows": options.objects}
    for modality in NineSenses("test").modalities:
        print(f"{modality:12s} {milliseconds(NineSenses('test', modalities=[modality], **arguments)):6.2f} ms")
    print(f"{'all nine':12s} {milliseconds(NineSenses('test', **arguments)):6.2f} ms")


if __name__ == "__main__":
    main()
