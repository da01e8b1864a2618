"""From an original download to images and a split file below the root."""
