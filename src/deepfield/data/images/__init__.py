"""Images of any format to a lazy set in one standard form, and models asked of them."""
