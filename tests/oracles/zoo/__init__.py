"""Facts of the bundled models, each measured by code that shares nothing with the training code."""
