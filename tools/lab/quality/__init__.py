"""What is learned from the same images, backbone, views and budget: mocox beside its peers, one judge for all."""
