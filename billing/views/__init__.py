"""The pages of billing, one file per subject."""
