"""A module or a folder for each model family. None imports another: what two have in common is in `bases`."""
