"""Reads run directories and publishes what they show; never trains."""
