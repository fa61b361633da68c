"""Many images to one Parquet file of vectors: in one process, on a cluster, or as they arrive."""
