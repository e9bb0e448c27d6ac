"""What can be chosen of how rows are read? Names alone, which command lines offer without importing what they mean."""

# Where tensors live, see `load_items`.
LOADINGS = ("auto", "memory", "disk", "lazy")
# What an unreadable row does. Not "null", as where items are embedded: a row of nothing teaches nothing.
ON_ERROR = ("raise", "skip")
# Seconds before a progress bar of work that is often short appears.
BAR_DELAY = 2.0
