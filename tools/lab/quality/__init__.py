"""Compare mocox with its peers on the same images, backbone, views and budget, by one judge."""
