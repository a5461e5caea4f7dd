"""One module per event family: parameters and `detect`; families do not know each other."""
