"""NineSenses, the embedded data set: objects of 20 classes, rendered into nine modalities from their seeds."""
