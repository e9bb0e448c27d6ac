"""What can be chosen of a benchmark? Names alone, which command lines offer without importing what they mean."""

SPLITS = ("train", "validation", "test")
PROTOCOLS = ("paper", "sound")
BACKBONES = ("ib", "vl")
