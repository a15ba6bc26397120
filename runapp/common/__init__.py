"""What everything uses and nothing else knows: errors, encodings, the table of transitions."""
