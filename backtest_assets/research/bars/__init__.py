"""From raw klines to clean bars; judging them is the gates' work, indicators belong to features."""
