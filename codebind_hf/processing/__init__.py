"""The raw data of every modality: everything that a checkpoint carries as code of its processor and pipelines. Flat."""
