"""The ground floor: model, heads, nets, fit, prediction, store; it knows nothing of the sky."""
