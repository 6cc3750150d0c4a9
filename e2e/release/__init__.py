"""What is given to users, built and checked here: the image, the chart, the manifests."""
