"""What can be chosen of training? Names alone, which command lines offer without importing what they mean."""

# What codes that all modalities share do while one is bound.
SHARED_CODES = ("frozen", "learning")
