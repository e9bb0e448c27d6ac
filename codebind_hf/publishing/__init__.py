"""Publishing: what of a checkpoint or a pack goes to the Hub, and how it gets there."""
