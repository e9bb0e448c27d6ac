"""Raw data of every modality: what a checkpoint carries as code of its processor and pipelines. Flat."""
