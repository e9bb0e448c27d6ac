"""What may be chosen of a search; commands offer it without importing torch."""

# By kind of thing, by the very unit, or by both: the shared part, the specific part, or both.
BY = ("what", "which", "both")
# Before or after the codes.
READ_OUTS = ("continuous", "quantized")
