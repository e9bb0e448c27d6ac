"""The network: everything that a checkpoint on the Hub carries as code of the model. Flat: siblings only."""
