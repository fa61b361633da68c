"""The images that a protocol is run on: classes, groups, landmarks, corruptions, scales."""
