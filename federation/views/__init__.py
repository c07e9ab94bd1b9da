"""The pages of federations, one file per subject."""
