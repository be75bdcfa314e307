"""What a model is and costs, apart from what it learns."""
