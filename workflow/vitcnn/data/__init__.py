"""From a publisher's archive to packed arrays, and from packed arrays to augmented batches."""
