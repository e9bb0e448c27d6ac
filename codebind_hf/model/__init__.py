"""The model room: everything that a checkpoint on the Hub carries as code."""
