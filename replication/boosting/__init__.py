"""The mathematics of boosting residual blocks: tensors in, tensors out; nothing here knows of networks or training.

The losses are modules all the same: the factor of one is trained like a weight, and the update loop takes them alike.
"""
