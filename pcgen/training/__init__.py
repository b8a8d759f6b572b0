"""What a training needs beyond Lightning: durable checkpoints, exact resuming, and where its numbers come from."""
