"""Pictures of fits. Every one takes ``ax`` and returns it; none computes statistics of its own."""
