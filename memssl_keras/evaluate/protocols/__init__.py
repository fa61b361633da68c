"""Scores of features, each protocol a short module with one entry: k-NN, probes, low-shot, retrieval, clustering."""
