"""Answers that are shapes: boxes, ellipses, polygons, masks, keypoints, cuboids, and tracks of them."""
