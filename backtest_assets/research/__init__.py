"""The research path as pure functions of frames, one sub-room per stage; disk, clock and Dagster stay out."""
