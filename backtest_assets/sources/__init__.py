"""Where raw market data come from, behind one interface; judging, cleaning and storing them stay out."""
