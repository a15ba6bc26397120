"""Arrays and data frames in files, and labels."""
