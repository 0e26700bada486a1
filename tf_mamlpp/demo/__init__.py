"""A page in the browser that teaches a deployed model by hand."""
