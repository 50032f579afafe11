"""Turn chat messages into the tokens of a prompt and of an answer, in one place for training, test and service."""
