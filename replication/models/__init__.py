"""Residual networks as a list of modules f_t and a head, and the hypothesis modules that boosting trains."""

from replication.models.build import build_network
from replication.models.resnet import ResNet

__all__ = ["ResNet", "build_network"]
