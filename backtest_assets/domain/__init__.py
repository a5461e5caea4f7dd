"""Small frozen values that every room may use; frames, files and clocks stay out."""
