"""The mathematics of boosting residual blocks: tensors in, tensors out; nothing here knows of networks or training."""
