"""How fast the model API is, beside what people would use in its place."""
