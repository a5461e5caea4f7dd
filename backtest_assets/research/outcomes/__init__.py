"""What happened after events and controls: the one room that looks ahead, closed to all but hypotheses and gates."""
