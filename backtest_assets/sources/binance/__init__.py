"""The exchange over the network: its public archive kept in an inbox as received, its REST interface for the tail."""
